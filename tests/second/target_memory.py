#!/usr/bin/env python3
"""Peak memory of target-parquet at default settings on inputs that are wide, long, many or endless; each must stay at or near
80 MB and load every row (or refuse what it must refuse). Standard library only. TARGET_PARQUET names the binary."""
import glob, json, os, subprocess, sys, tempfile, threading

BINARY = os.environ.get("TARGET_PARQUET", "target/release/target-parquet")
LIMIT_MB = 80  # of a release build
# Row groups are at their least there, and more of them wait for the encoder where others take its core. Eight runs on two cores
# with fifteen busy processes: 71 to 81 MB, and 79 to 89 MB.
# `columns_10000` took 64 to 80 MB in thirteen runs, before and after the rooms were built, by how far the encoder lags behind.
MORE_MB = {"columns_10000": 4, "columns_10000_sparse": 10, "wide_after_narrow": 20}
passed = failed = 0
S = lambda stream, props: json.dumps({"type": "SCHEMA", "stream": stream, "key_properties": ["id"], "schema": {"properties": {"id": {"type": "integer"}, **props}}}) + "\n"
R = lambda stream, body: '{"type":"RECORD","stream":"%s","record":{%s}}\n' % (stream, body)
N = {"type": ["null", "string"]}


def rows_2m():
    yield S("s", {"a": N, "b": {"type": ["null", "number"]}})
    for block in range(200):
        yield "".join(R("s", '"id":%d,"a":"user_%d@example.com","b":%d.5' % (i, i % 90000, i % 977)) for i in range(block * 10000, block * 10000 + 10000))


def streams_300():
    props = {f"c{i}": N for i in range(9)}
    yield "".join(S(f"s{k}", props) for k in range(300))
    for i in range(1000):
        yield "".join(R(f"s{k}", '"id":%d,%s' % (i, ",".join('"c%d":"value %d of %d"' % (c, i * 31 % 777, c) for c in range(9)))) for k in range(300))


def columns_10000():
    yield S("s", {f"c{i}": {"type": ["null", ["string", "integer", "number"][i % 3]]} for i in range(9999)})
    for i in range(300):
        yield R("s", '"id":%d,%s' % (i, ",".join('"c%d":%s' % (c, '"v%d"' % (i * c % 1000) if c % 3 == 0 else i * c) for c in range(9999))))


def columns_10000_sparse():
    yield S("s", {f"c{i}": {"type": ["null", ["string", "integer", "number"][i % 3]]} for i in range(9999)})
    for block in range(100):
        yield "".join(R("s", '"id":%d,"c%d":%s' % (i, i * 7 % 9999, '"v"' if i * 7 % 9999 % 3 == 0 else "1")) for i in range(block * 1000, block * 1000 + 1000))


def rows_60kb():
    yield S("s", {"o": {"type": ["null", "object"]}, "t": N})
    for i in range(8000):
        yield R("s", '"id":%d,"o":{"x":"%s"},"t":"%s"' % (i, ("%d lorem ipsum " % i) * 2500, "dolor %d " % i * 1500))


def one_line_1gb():
    yield S("s", {"t": N})
    yield '{"type":"RECORD","stream":"s","record":{"id":1,"t":"'
    for _ in range(1024):
        yield "x" * (1 << 20)
    yield '"}}\n'


def partitions(n, columns=50):
    yield S("s", {"p": {"type": "string"}, **{f"c{i}": N for i in range(columns)}})
    for i in range(n): yield R("s", '"id":%d,"p":"p%d"' % (i, i))


def schema_of(mb):
    yield '{"type":"SCHEMA","stream":"s","schema":{"properties":{"id":{"type":"integer","enum":[' + "1," * (mb << 19) + "1]}}}}\n"
    yield R("s", '"id":1')


def unknown_names():
    yield S("s", {})
    for i in range(300): yield R("s", '"id":%d,"%s%d":1' % (i, "k" * 1000000, i))


def compressed():
    import random
    bits = random.Random(1).getrandbits
    yield S("s", {"v": {"type": "object"}, "w": {"type": "string"}})
    for block in range(60): yield "".join(R("s", '"id":%d,"v":{"a":"%x"},"w":"%x"' % (i, bits(800), bits(400))) for i in range(block * 1000, block * 1000 + 1000))


def wide_after_narrow():
    yield S("s", {})
    yield S("s", {f"c{i}": N for i in range(9990)})
    for i in range(1500): yield R("s", '"id":%d,%s' % (i, ",".join('"c%d":"v%d"' % (c, c) for c in range(9990))))


def ids(n):
    yield S("s", {"v": N})
    for block in range(n // 10000): yield "".join(R("s", '"id":%d,"v":"x"' % i) for i in range(block * 10000, block * 10000 + 10000))


def run(name, lines, rows, code, settings={}):
    global passed, failed
    with tempfile.TemporaryDirectory() as work:
        config = os.path.join(work, "c.json"); json.dump({"destination_path": os.path.join(work, "out"), **settings}, open(config, "w"))
        p = subprocess.Popen([BINARY, "--config", config], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        err = []; reader = threading.Thread(target=lambda: err.append(p.stderr.read())); reader.start()
        try:
            for piece in lines: p.stdin.write(piece.encode())
            p.stdin.close()
        except BrokenPipeError: pass
        _, status, usage = os.wait4(p.pid, 0); p.returncode = os.waitstatus_to_exitcode(status); reader.join()
        loaded = sum(f["rows"] for c in glob.glob(work + "/out/_target/commits/*.json") for f in json.load(open(c))["files"] if f["stream"])
        files = len(glob.glob(work + "/out/**/*.parquet", recursive=True))
        rss = usage.ru_maxrss / 1024
        ok = p.returncode == code and loaded == rows and rss <= LIMIT_MB + MORE_MB.get(name, 0)
        passed, failed = passed + ok, failed + (not ok)
        print("ok  " if ok else "FAIL", f"{name}: exit {p.returncode}, {loaded} rows, {files} files, peak {rss:.0f} MB, {usage.ru_utime + usage.ru_stime:.1f} s CPU", "" if p.returncode == code else err[0][-300:], flush=True)


CASES = {"rows_2m": (rows_2m, 2_000_000, 0), "streams_300": (streams_300, 300_000, 0), "columns_10000": (columns_10000, 300, 0),
         "columns_10000_sparse": (columns_10000_sparse, 100_000, 0), "rows_60kb": (rows_60kb, 8000, 0), "one_line_1gb": (one_line_1gb, 0, 6),
         "partitions_5000": (lambda: partitions(5000), 5000, 0, {"partition_by": ["p"]}), "partitions_20000": (lambda: partitions(20000), 20000, 0, {"partition_by": ["p"]}),
         "schema_8mb": (lambda: schema_of(8), 1, 0), "schema_16mb": (lambda: schema_of(16), 1, 0), "unknown_names": (unknown_names, 300, 0),
         "zstd_9": (compressed, 60000, 0, {"compression_level": 9}), "zstd_22": (compressed, 0, 3, {"compression_level": 22}),
         "brotli_4": (compressed, 60000, 0, {"compression": "brotli", "compression_level": 4}), "brotli_11": (compressed, 0, 3, {"compression": "brotli", "compression_level": 11}),
         "wide_after_narrow": (wide_after_narrow, 1500, 0), "dedup_always": (lambda: ids(1_200_000), 1_200_000, 0, {"dedup": "always"})}
for name in sys.argv[1:] or CASES:
    make, rows, code, *settings = CASES[name]
    run(name, make(), rows, code, *settings)
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0 or passed == 0)
