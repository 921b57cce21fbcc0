"""A million events inside one lookback: what a run delivered of the overlap is not repeated, and what came late is found.

    python tests/long/box_overlap.py

With a list that can name them all, and with the default one, which cannot: then the lookback is shorter, and the rest is
watched by hours of arrival.
"""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "second"))
from box import Box, Pipe, Report, compare, iso, now_us  # noqa: E402

HOUR_US = 3_600_000_000


def late(box, number):
    """Events that arrive now and events that show now although they arrived hours ago."""
    now = now_us()
    arrivals = [now - 3_000_000, now - 2 * HOUR_US, now - 20 * HOUR_US]
    box.ingest([{"event": "late", "timestamp": iso(now - 30 * HOUR_US + number * 1_000_000 + n), "created_at": iso(arrivals[n % 3]),
                 "distinct_id": f"u{n % 7}", "properties": {"n": n}} for n in range(300)])


def main():
    report = Report("box_overlap")
    for name, settings in [("all named", {"max_state_bytes": 10_000_000}), ("defaults", {})]:
        with Box(1_000_000, days=2) as box, Pipe(box, lookback_window_minutes=43_200, **settings) as pipe:
            first = pipe.run()
            report.check(f"{name}: first run", (first.tap_code, first.target_code) == (0, 0), f"{first.rows()} rows, state {len(pipe.state)} bytes, {first.tap_mb} MB tap, {first.target_mb} MB target")
            report.check(f"{name}: the state names events of the overlap", len(pipe.state) > 1_000_000, len(pipe.state))
            report.same(f"{name}: first run", compare(box, pipe))
            for number in range(3):
                again = pipe.run()
                report.check(f"{name}: run {number + 2} repeats nothing", (again.tap_code, again.rows()) == (0, 0), f"{again.rows()} rows, {again.seconds:.0f} s, {again.tap_mb} MB tap")
            for number in range(2):
                late(box, number)
                run = pipe.run()
                repeated = run.rows() - 300
                report.check(f"{name}: late ones, {number + 1}", run.tap_code == 0 and (repeated == 0 or "may repeat" in run.says()), f"{run.rows()} rows, {repeated} of them repeated with a warning")
            end = compare(box, pipe)
            named = settings and end.none()
            report.check(f"{name}: at the end", named or not settings and not end.lost and not end.foreign, end)
    report.end()


if __name__ == "__main__":
    main()
