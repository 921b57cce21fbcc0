"""What a backfill of 1.5 million events in 3 days costs PostHog, and us: bytes that ClickHouse reads per byte of answer,
requests, wall time, peak memory. Then the same with a million person overrides in the project.

    python tests/long/box_cost.py [--url http://127.0.0.1:PORT]     a box that runs with these events, else its own is started
"""
import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "second"))
from box import Box, Pipe, Report, compare  # noqa: E402

ANSWER_MB = 16


def backfill(report, box, name, **settings):
    with Pipe(box, **settings) as pipe:
        box.forget()
        run = pipe.run()
        report.check(f"{name}: ends well", (run.tap_code, run.target_code) == (0, 0), run.says() if run.tap_code or run.target_code else "")
        stats, queries = box.ask("stats"), box.queries()
        body, read, requests = sum(q["bytes"] for q in queries), stats["ch_bytes_read"], len(queries)
        least = body / (ANSWER_MB * 1e6)
        print(f"| {name} | {run.rows()} rows | {read / 1e6:.0f} MB read / {body / 1e6:.0f} MB of bodies = {read / body:.3f} | {requests} requests = {requests / least:.2f} x bodies / {ANSWER_MB} MB | "
              f"{run.seconds:.0f} s, {run.rows() / run.seconds:.0f} rows/s | {run.tap_mb} MB tap, {run.target_mb} MB target | "
              f"{' and '.join(f'{cpu / run.rows() * 1e6:.1f} us' for cpu in run.cpu)} of CPU per record |", flush=True)
        kinds = {}
        for query in queries:
            sql = query["sql"]
            kind = next((word for word in ("AS least", "AS day,", "AS hour", "AS versions", "uuid, created_at LIMIT") if word in sql), "other")
            count, rows_read, size = kinds.get(kind, (0, 0, 0))
            kinds[kind] = (count + 1, rows_read + query["bytes_read"], size + query["bytes"])
        for kind, (count, kind_read, size) in kinds.items():
            print(f"      {kind}: {count} queries read {kind_read / 1e6:.1f} MB for {size / 1e6:.1f} MB")
        report.check(f"{name}: bytes read are at most 1.25 x bodies", read <= 1.25 * body, f"{read / body:.3f}")
        report.check(f"{name}: requests are at most 1.3 x bodies / {ANSWER_MB} MB", requests <= 1.3 * least, f"{requests} and {1.3 * least:.0f}")
        report.check(f"{name}: the tap stays under 70 MB", run.tap_mb <= 70, f"{run.tap_mb} MB")
        report.check(f"{name}: the target stays under 80 MB", run.target_mb <= 80, f"{run.target_mb} MB")
        report.same(name, compare(box, pipe))
        wrong = box.careless()
        report.check(f"{name}: careful queries", not wrong, wrong[:2])
        return requests


def add_overrides(box, count):
    have = int(box.sql("SELECT count() FROM person_distinct_id_overrides"))
    if have < count:
        box.sql("INSERT INTO person_distinct_id_overrides SELECT 1, concat('override_', toString(number)), generateUUIDv4(number), 0, 1, now(), number "
                f"FROM numbers({count - have})")
    print(f"{box.sql('SELECT count() FROM person_distinct_id_overrides')} person overrides", flush=True)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--url")
    arguments.add_argument("--events", type=int, default=1_500_000)
    arguments.add_argument("--overrides", type=int, default=1_000_000)
    given = arguments.parse_args()
    report = Report("box_cost")
    with Box(given.events, url=given.url, days=3) as box:
        since = {"initial_since": "2026-11-01"}
        proved = backfill(report, box, "flattened", **since)
        trusted = backfill(report, box, "without count proof", count_proof="off", **since)
        report.check("the count proof takes at most 2 % more requests", proved <= 1.02 * trusted, f"{proved} and {trusted}, every 5003rd event stored twice")
        add_overrides(box, given.overrides)
        backfill(report, box, "with overrides", **since)
        backfill(report, box, "nested", flatten_properties=False, **since)
        backfill(report, box, "everything since 1970", initial_since="1969-12-31")
    report.end()


if __name__ == "__main__":
    main()
