#!/usr/bin/env python3
"""The twenty target streams of the Singer SDK through target-parquet: which must load (with how many rows, read by pyarrow
and DuckDB) and which must be refused. Needs singer-sdk, pyarrow, duckdb; TARGET_PARQUET names the binary."""
import glob, json, os, pathlib, subprocess, sys, tempfile
import duckdb, pyarrow.parquet as pq, singer_sdk.testing

BINARY = os.environ.get("TARGET_PARQUET", "target/release/target-parquet")
STREAMS = pathlib.Path(singer_sdk.testing.__file__).parent / "target_test_streams"
REFUSED = {"record_before_schema", "record_missing_key_property", "record_missing_required_property"}
passed = failed = 0


def check(name, ok, seen):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    print("ok  " if ok else "FAIL", name, seen)


for path in sorted(STREAMS.glob("*.singer")):
    name = path.stem
    with tempfile.TemporaryDirectory() as work:
        config = os.path.join(work, "c.json"); out = os.path.join(work, "out")
        json.dump({"destination_path": out}, open(config, "w"))
        ran = subprocess.run([BINARY, "--config", config], stdin=open(path), capture_output=True, text=True)
        last = (ran.stderr.strip().splitlines() or [""])[-1]
        if name in REFUSED:
            check(name, ran.returncode in (6, 7) and not ran.stdout, f"exit {ran.returncode}: {last[25:150]}")
            continue
        lines = [json.loads(line) for line in open(path, encoding="utf-8") if line.strip()]
        records = [m for m in lines if m["type"] == "RECORD"]
        states = [m["value"] for m in lines if m["type"] == "STATE"]
        files = glob.glob(out + "/**/*.parquet", recursive=True)
        arrow = sum(pq.read_table(f).num_rows for f in files)
        duck = duckdb.sql(f"select count(*) from read_parquet({files!r}, union_by_name=true)").fetchall()[0][0] if files else 0
        printed = [json.loads(line) for line in ran.stdout.splitlines()]
        ok = ran.returncode == 0 and arrow == duck == len(records) and printed[-1:] == states[-1:]
        if name == "encoded_string_data":
            texts = {v for f in files for c in pq.read_table(f).columns for v in c.to_pylist() if isinstance(v, str)}
            want = {v for m in records for v in m["record"].values() if isinstance(v, str)}
            ok = ok and want <= texts
        check(name, ok, f"exit {ran.returncode}, {len(records)} records, rows: pyarrow {arrow}, DuckDB {duck}; state {str(printed[-1:])[:60]} {last[25:150] if ran.returncode else ''}")
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0 or passed == 0)
