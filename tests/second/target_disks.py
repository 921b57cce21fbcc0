#!/usr/bin/env python3
"""Disks that are full, without inodes, or read-only: exit 5, no torn file, no state, and the same run works afterwards.
Needs Linux with unshare (its own mount namespace); says so and passes where that is not possible. TARGET_PARQUET names the binary."""
import glob, json, os, random, shutil, subprocess, sys

BINARY = os.path.abspath(os.environ.get("TARGET_PARQUET", "target/release/target-parquet"))
if os.environ.get("TARGET_DISKS_INSIDE") != "1":
    if not shutil.which("unshare") or subprocess.run(["unshare", "--map-root-user", "--mount", "true"], capture_output=True).returncode:
        print("skipped: no mount namespace here"); print("0 passed, 0 failed"); sys.exit(0)
    env = dict(os.environ, TARGET_DISKS_INSIDE="1")
    sys.exit(subprocess.run(["unshare", "--map-root-user", "--mount", sys.executable, __file__], env=env).returncode)

passed = failed = 0


def check(name, ok, seen=""):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    print("ok  " if ok else "FAIL", name, seen)


r = random.Random(1)
lines = [{"type": "SCHEMA", "stream": "s", "key_properties": ["id"], "schema": {"properties": {"id": {"type": "integer"}, "t": {"type": "string"}}}}]
lines += [{"type": "RECORD", "stream": "s", "record": {"id": i, "t": "%x" % r.getrandbits(4000)}} for i in range(8000)] + [{"type": "STATE", "value": {"n": 1}}]
text = "".join(json.dumps(l) + "\n" for l in lines)
base = os.path.abspath("target/disks"); os.makedirs(base, exist_ok=True)


def run(folder):
    config = base + "/c.json"; json.dump({"destination_path": folder}, open(config, "w"))
    p = subprocess.run([BINARY, "--config", config], input=text, capture_output=True, text=True)
    return p, len(glob.glob(folder + "/**/*.parquet", recursive=True))


for name, options, cure in [("full disk", "size=1m", "size=100m"), ("no inodes", "nr_inodes=8", "nr_inodes=1000"), ("read-only folder", "ro", "rw")]:
    mount = base + "/" + name.replace(" ", "_"); os.makedirs(mount, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", mount], check=True)
    p, files = run(mount + "/out")
    error = [l for l in p.stderr.splitlines() if "CRITICAL" in l]
    check(f"{name}: refused", p.returncode == 5 and not p.stdout and files == 0 and len(error) == 1, f"exit {p.returncode}, {files} files: {error[-1][25:190] if error else p.stderr[-200:]}")
    subprocess.run(["mount", "-o", "remount," + cure, mount], check=True)
    p, files = run(mount + "/out")
    check(f"{name}: works when cured", p.returncode == 0 and files == 1 and json.loads(p.stdout) == {"n": 1}, f"exit {p.returncode}, {files} files")
    subprocess.run(["umount", mount])
shutil.rmtree(base)
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0)
