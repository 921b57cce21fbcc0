"""Rows that become visible long after their `created_at`: 20 minutes and 3 hours. They come in the next run, with a warning,
together with what else arrived in that hour: at least once.

    python tests/long/late_ledger.py

The box stores a row whenever it is told to, with any `created_at`: that is what lag looks like from outside.
"""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "second"))
from box import Box, Pipe, Report, compare, iso, now_us  # noqa: E402

MINUTE = 60_000_000


def events(name, count, lag, age=MINUTE):
    arrived = now_us() - lag
    return [{"event": name, "timestamp": iso(arrived - age - n), "created_at": iso(arrived), "distinct_id": f"u{n}", "properties": {}} for n in range(count)]


def main():
    report = Report("late_ledger")
    for timezone in ("UTC", "America/Los_Angeles"):
        for name, lag in {"20 minutes": 20 * MINUTE, "3 hours": 180 * MINUTE, "47 hours": 47 * 60 * MINUTE}.items():
            with Box(2_000, timezone) as box, Pipe(box) as pipe:
                # What arrived in the same hours and was visible at once.
                for ago in range(0, 48 * 60, 30):
                    box.ingest(events("in time", 3, ago * MINUTE + 17_000_000))
                first = pipe.run()
                report.check(f"{name}: first run", (first.tap_code, first.target_code) == (0, 0), first.says() if first.tap_code else "")
                quiet = pipe.run()
                report.check(f"{name}: nothing new, nothing repeated", quiet.rows() == 0 and "became visible" not in quiet.tap_log, f"{quiet.rows()} rows")
                box.ingest(events("lagging", 25, lag))
                run = pipe.run()
                found = json.dumps(run.tap_log.count("became visible"))
                difference = compare(box, pipe)
                report.check(f"{name}: comes in the next run, with its warning", run.tap_code == 0 and "became visible" in run.tap_log and difference.lost == 0, f"{run.rows()} rows, {found} warnings, {difference}")
                report.check(f"{name}: only that hour repeats", difference.foreign == 0 and difference.repeated <= 12, f"{difference.repeated} repeated")
                after = pipe.run()
                report.check(f"{name}: once noted, quiet again", after.rows() == 0, f"{after.rows()} rows")
    report.end()


if __name__ == "__main__":
    main()
