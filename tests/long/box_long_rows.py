"""Single events of many megabytes, among ordinary ones: what each costs the tap in memory, and that it comes out whole.

    python tests/long/box_long_rows.py
"""
import hashlib
import json
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "second"))
from box import Box, Pipe, Report, Watch, iso, now_us, start  # noqa: E402

# The name, what the long property is made of, how often, and its bytes in an answer (an escape inside an escape).
ROWS = [("12 MB of quotes", '"', 3_000_000), ("18 MB of quotes", '"', 4_500_000), ("44 MB of quotes", '"', 11_000_000),
        ("18 MB of text", "text ", 3_600_000), ("30 MB of text", "text ", 6_000_000), ("44 MB of text", "text ", 8_800_000),
        ("20 MB of lists", "[1,2],", 3_300_000)]


def long_of(record):
    """The long property, wherever it stands: in its column (lists as text), among the unmapped ones, or in the object."""
    if "properties_long" in record:
        text = record["properties_long"]
        return json.loads(text) if text and text.startswith("[") else text
    return (record.get("unmapped_properties") or record.get("properties") or {}).get("long")


def digest(value):
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def read(pipe):
    """The tap alone; its lines are looked at while they come, so that only the tap has to hold them."""
    with open(pipe.folder / "tap.log", "w+") as log:
        tap = start(pipe.tap_command(), stdout=subprocess.PIPE, stderr=log, cwd=pipe.folder)
        watched, events = Watch(tap), {}
        for line in tap.stdout:
            if line.startswith(b'{"type":"RECORD"'):
                record = json.loads(line)["record"]
                events[record["uuid"]] = digest(long_of(record))
        code = tap.wait()
        log.seek(0)
        return code, events, watched.mb(), log.read()


def main():
    report = Report("box_long_rows")
    for name, part, count in ROWS:
        with Box(20_000, days=1) as box:
            value = json.loads(f"[{part * count}0]") if part.startswith("[") else part * count
            uuid = box.ingest([{"event": "long", "timestamp": iso(now_us() - 3_600_000_000), "distinct_id": "one", "properties": {"long": value}}])[0]
            for nested in (False, True):
                with Pipe(box, flatten_properties=not nested) as pipe:
                    code, events, mb, log = read(pipe)
                    what = f"{name}, {'nested' if nested else 'flattened'}"
                    report.check(f"{what}: ends well", code == 0, log[-600:] if code else f"{len(events)} events")
                    report.check(f"{what}: whole", events.get(uuid) == digest(value))
                    report.check(f"{what}: at most 70 MB", mb <= 70, f"{mb} MB")
    with Box(1_000) as box, Pipe(box) as pipe:
        uuid = box.ingest([{"event": "long", "timestamp": iso(now_us() - 3_600_000_000), "distinct_id": "one", "properties": {"long": "x" * 60_000_000}}])[0]
        code, _, mb, log = read(pipe)
        report.check("60 MB: an error that names it", code == 4 and uuid in log, f"exit {code}, {mb} MB")
    report.end()


if __name__ == "__main__":
    main()
