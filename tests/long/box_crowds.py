"""Crowds: 3,000,000 events of one distinct_id in a day and 1,000,000 on one microsecond, as servers of the classic and of
the new storage hold them; 300,000 and 200,000 such events beside 20,000 names of events.

    python tests/long/box_crowds.py
"""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "second"))
from box import DAY_US, Box, Pipe, Report, compare, iso, now_us  # noqa: E402


BYTES_READ_PER_BODY_BYTE = 1.25
TAP_MB = 70
SMALL_COLUMNS = "uuid, event, properties, timestamp, team_id, distinct_id, elements_chain, created_at, person_id, person_properties, person_mode, _timestamp"


def fill(box, count, event, distinct_id, start, step_us):
    """Stores events of one key, each with about half a kilobyte of properties."""
    text = "repeat(hex(cityHash64(number, 1)), 24)"
    properties = f"""concat('{{"i":', toString(number), ',"queue":"default","text":"', {text}, '"}}')"""
    time = f"fromUnixTimestamp64Micro(toInt64({start}) + toInt64(number) * {step_us}, 'UTC')"
    arrived = f"fromUnixTimestamp64Micro(toInt64({now_us() - 3_600_000_000}), 'UTC')"
    box.sql(f"INSERT INTO events ({SMALL_COLUMNS}) SELECT generateUUIDv4(number), '{event}', {properties}, {time}, 1, '{distinct_id}', '', {arrived}, "
            f"toUUID('00000000-0000-0000-0000-000000000001'), '{{}}', 'full', now() FROM numbers({count})")


def change_storage(box):
    """Stores all events anew, in the sort key of servers with native JSON, and their index on `timestamp`."""
    columns = box.sql("SHOW CREATE TABLE events").split("ENGINE =")[0].split("(", 1)[1].rstrip().removesuffix(")")
    key = "team_id, toDate(timestamp), event, cityHash64(distinct_id)"
    box.sql(f"CREATE TABLE events_new ({columns}, INDEX minmax_timestamp timestamp TYPE minmax GRANULARITY 1) ENGINE = ReplacingMergeTree(_timestamp) "
            f"PARTITION BY toYYYYMM(timestamp) PRIMARY KEY ({key}) ORDER BY ({key}, timestamp, uuid) SAMPLE BY cityHash64(distinct_id)")
    box.sql(f"INSERT INTO events_new ({SMALL_COLUMNS}) SELECT {SMALL_COLUMNS} FROM events")
    box.sql("OPTIMIZE TABLE events_new FINAL")
    box.sql("EXCHANGE TABLES events AND events_new")
    box.sql("DROP TABLE events_new SYNC")


def very_busy(report):
    with Box(1_000) as box:
        day = now_us() // DAY_US * DAY_US - 3 * DAY_US
        fill(box, 3_000_000, "job done", "server", day, 28_000)
        fill(box, 1_000_000, "burst", "import", day + DAY_US + 1, 0)
        box.ask("optimize", {})  # as PostHog does all the time: each part of the table costs a slice half a granule
        for storage, probes in (("classic", 1), ("new", 2)):
            if storage == "new":
                change_storage(box)
            with Pipe(box, flatten_properties=False) as pipe:
                box.forget()
                run = pipe.run()
                queries = box.queries()
                body, read = sum(query["bytes"] for query in queries), box.ask("stats")["ch_bytes_read"]
                report.check(f"{storage}: ends well", (run.tap_code, run.target_code) == (0, 0), run.says() if run.tap_code or run.target_code else f"{run.rows()} rows in {run.seconds:.0f} s")
                report.same(f"{storage}: whole and once", compare(box, pipe))
                proved, slices = run.proof() or (0, -1)
                report.check(f"{storage}: proved", proved == slices, f"{proved} of {slices} slices, {len(queries)} queries")
                detail = f"{read / 1e6:.0f} MB read for {body / 1e6:.0f} MB of bodies: {read / max(body, 1):.3f}"
                report.check(f"{storage}: bytes read", read <= BYTES_READ_PER_BODY_BYTE * body, detail)
                report.check(f"{storage}: memory", run.tap_mb < TAP_MB, f"{run.tap_mb} MB tap, {run.target_mb} MB target")
                asked = sum((query.get("sql") or "").startswith("SELECT uuid FROM events") for query in queries)
                report.check(f"{storage}: probes", asked == probes, asked)
                wrong = box.careless()
                report.check(f"{storage}: careful queries", not wrong, wrong[:2])


def main():
    report = Report("box_crowds")
    very_busy(report)
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
