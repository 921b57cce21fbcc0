#!/usr/bin/env python3
"""Kills target-parquet with SIGKILL at random moments and restarts it from the last printed or from an older state, while
a reader polls the folder. At the end every row must be there once, and no file may ever have been torn.

usage: target_kill.py [KILLS=100] [SEED=1]     needs pyarrow; TARGET_PARQUET names the binary
The tap is simulated as one that reads a table in order of its key, resumes at any state and cuts its states at random places.
"""
import glob, json, os, random, shutil, signal, subprocess, sys, tempfile, threading, time
import pyarrow.parquet as pq

BINARY = os.environ.get("TARGET_PARQUET", "target/release/target-parquet")
KILLS = int(sys.argv[1]) if len(sys.argv) > 1 else 100
SEED = int(sys.argv[2]) if len(sys.argv) > 2 else 1
r = random.Random(SEED)
work = tempfile.mkdtemp(prefix="target_kill_"); out = os.path.join(work, "out"); config = os.path.join(work, "config.json")
json.dump({"destination_path": out, "batch_size_rows": 400, "max_batch_age_minutes": 0.0005}, open(config, "w"))
schema = json.dumps({"type": "SCHEMA", "stream": "events", "key_properties": ["uuid"], "bookmark_properties": ["n"], "schema": {
    "type": "object", "properties": {"uuid": {"type": "string"}, "n": {"type": "integer"}, "properties": {"type": ["null", "object"]}}}})
torn, polls, stop = [], 0, threading.Event()


def poll():
    global polls
    while not stop.is_set():
        for path in glob.glob(out + "/**/*.parquet", recursive=True):
            try:
                pq.ParquetFile(path).read(); polls += 1
            except FileNotFoundError: pass
            except Exception as e: torn.append((path, str(e)))
        time.sleep(0.01)


def run(start, kill_after):
    """One run from row `start`; killed after so many seconds (None: to its end of 4000 rows). Returns printed states and rows sent."""
    p = subprocess.Popen([BINARY, "--config", config], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    states = []
    reader = threading.Thread(target=lambda: states.extend(json.loads(l) for l in p.stdout)); reader.start()
    killer = threading.Timer(kill_after, p.send_signal, [signal.SIGKILL]) if kill_after is not None else None
    if killer: killer.start()
    n, end = start, start + 4000
    try:
        w = p.stdin.write
        w(json.dumps({"type": "STATE", "value": {"n": start} if start else {}}) + "\n"); w(schema + "\n")
        while n < end:
            step = min(r.randrange(1, 300), end - n)
            for i in range(n, n + step):
                w(json.dumps({"type": "RECORD", "stream": "events", "record": {"uuid": "%032x" % (i * 7919), "n": i, "properties": {"x": "y" * (i % 200)}}}) + "\n")
            n += step
            w(json.dumps({"type": "STATE", "value": {"n": n}}) + "\n"); p.stdin.flush()
            if kill_after is not None: time.sleep(r.random() * 0.02)
        p.stdin.close()
    except (BrokenPipeError, ValueError): pass
    code = p.wait(); reader.join()
    if killer: killer.cancel()
    try: p.stdin.close()
    except OSError: pass
    return states, code


poller = threading.Thread(target=poll); poller.start()
known, kills, runs, older = [0], 0, 0, 0
while kills < KILLS:
    start = known[-1]
    if len(known) > 1 and r.random() < 0.15:
        start = r.choice(known[-min(len(known), 30):]); older += start != known[-1]
    states, code = run(start, r.random() ** 2 * 0.6)
    runs += 1; kills += code == -signal.SIGKILL
    if code not in (0, -signal.SIGKILL): sys.exit(f"unexpected exit {code}")
    known += [s["n"] for s in states if s.get("n")]
last = known[-1]
states, code = run(last, None)
stop.set(); poller.join()
end = last + 4000
ns = [n for path in glob.glob(out + "/events/*.parquet") for n in pq.read_table(path).column("n").to_pylist()]
missing, repeated = end - len(set(ns) & set(range(end))), len(ns) - len(set(ns))
checks = {"last run ends well": code == 0, "no row is lost": missing == 0, "no row is repeated": repeated == 0, "no torn file was seen": not torn}
print(f"seed {SEED}: {kills} kills, {runs + 1} runs, {older} from an older state, {len(ns)} rows, {missing} lost, {repeated} repeated, {polls} polls, {len(torn)} torn", torn[:3])
for name, ok in checks.items(): print("ok  " if ok else "FAIL", name)
shutil.rmtree(work)
bad = sum(not ok for ok in checks.values())
print(f"{len(checks) - bad} passed, {bad} failed"); sys.exit(bad > 0)
