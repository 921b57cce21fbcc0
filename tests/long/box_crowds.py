"""Crowds: 300,000 events of one distinct_id in a day, 200,000 on one microsecond, 20,000 names of events.

    python tests/long/box_crowds.py
"""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "second"))
from box import DAY_US, Box, Pipe, Report, compare, iso, now_us  # noqa: E402


def main():
    report = Report("box_crowds")
    with Box(1_000) as box:
        day = now_us() // DAY_US * DAY_US - 2 * DAY_US
        arrived = iso(now_us() - 3_600_000_000)
        crowds = [{"count": 300_000, "timestamp": iso(day), "event": "busy", "distinct_id": "one id", "step_us": 250_000},
                  {"count": 200_000, "timestamp": iso(day + DAY_US + 1), "event": "burst"}]
        for crowd in crowds:
            box.ask("ingest", {"generate": {"created_at": arrived, **crowd}})
        box.ingest([{"event": f"name {number} é", "timestamp": iso(day + number * 4_000_000), "created_at": arrived, "distinct_id": f"u{number % 99}", "properties": {}}
                    for number in range(20_000)])
        for nested in (False, True):
            with Pipe(box, flatten_properties=not nested) as pipe:
                box.forget()
                run = pipe.run()
                name = "nested" if nested else "flattened"
                report.check(f"{name}: ends well", (run.tap_code, run.target_code) == (0, 0), run.says() if run.tap_code or run.target_code else f"{run.rows()} rows in {run.seconds:.0f} s")
                report.same(name, compare(box, pipe))
                proved, slices = run.proof() or (0, -1)
                report.check(f"{name}: proved", proved == slices, f"{proved} of {slices} slices, {len(box.queries())} queries, {run.tap_mb} MB tap, {run.target_mb} MB target")
                wrong = box.careless()
                report.check(f"{name}: careful queries", not wrong, wrong[:2])
    report.end()


if __name__ == "__main__":
    main()
