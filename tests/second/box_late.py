"""Late, odd and moving events, and runs that end early: each stored version comes out once, and in the run that it should.

    python tests/second/box_late.py [--only CASE...]
"""
import argparse
import json
import re
import signal
import time

from box import Box, DAY_US, Pipe, Report, SINCE, compare, iso, now_us

MINUTE, HOUR = 60_000_000, 3_600_000_000
PAGE = "timestamp, uuid, created_at LIMIT"  # the end of a page query
CASES = []


def case(function):
    CASES.append(function)
    return function


def good(report, what, run, rows=None):
    wanted = rows is None or run.rows() == rows
    return report.check(what, (run.tap_code, run.target_code) == (0, 0) and wanted, f"{run.rows()} rows" if run.tap_code == 0 else run.says())


@case
def late_arrivals(report, box):
    """Events whose own time is 1 minute to 6 days before their arrival, and in the future, come in the next run."""
    with Pipe(box, initial_since=iso(now_us() - 30 * DAY_US)) as pipe:
        good(report, "first run", pipe.run())
        good(report, "second run: nothing", pipe.run(), 0)
        ages = {"1 minute": MINUTE, "14 minutes": 14 * MINUTE, "16 minutes": 16 * MINUTE, "1 hour": HOUR, "1 day": DAY_US, "3 days": 3 * DAY_US, "6 days": 6 * DAY_US,
                "a minute under 7 days": 7 * DAY_US - 5 * MINUTE, "in an hour": -HOUR, "in 400 days": -400 * DAY_US, "in 2090": -64 * 365 * DAY_US}
        for name, age in ages.items():
            box.ingest([{"event": "late", "timestamp": iso(now_us() - age - n), "distinct_id": f"u{n}", "properties": {}} for n in range(5)])
            good(report, f"late by {name}: comes in the next run", pipe.run(), 5)
        report.same("late arrivals", compare(box, pipe))
        good(report, "and once", pipe.run(), 0)


@case
def stored_again(report, box):
    """Re-sent with a new created_at: a new version. Stored twice as it was, before a merge: the same one. After the merge: nothing."""
    with Pipe(box) as pipe:
        good(report, "first run", pipe.run())
        rows = [json.loads(row) for row in box.sql("SELECT toString(uuid) AS uuid, event, distinct_id, toString(events.timestamp) AS timestamp, properties FROM events "
                                                   "WHERE events.timestamp > '2026-11-01' ORDER BY cityHash64(uuid) LIMIT 20 FORMAT JSONEachRow").split("\n")]
        uuids = [row["uuid"] for row in rows]
        box.ask("duplicate", {"uuids": uuids})
        good(report, "stored twice as it was: nothing new", pipe.run(), 0)
        fresh = [{"event": "fresh", "timestamp": iso(now_us() - 2_000_000), "distinct_id": f"u{n}", "properties": {}} for n in range(10)]
        uuids += box.ingest(fresh)
        box.ask("duplicate", {"uuids": uuids[-10:]})
        good(report, "new and stored twice: each once", pipe.run(), 10)
        recent = [json.loads(row) for row in box.sql("SELECT toString(uuid) AS uuid, event, distinct_id, toString(events.timestamp) AS timestamp, properties FROM events WHERE event = 'fresh' FORMAT JSONEachRow").split("\n")]
        again = list({row["uuid"]: row for row in recent}.values())[:6]
        box.ingest([{**row, "created_at": iso(now_us() - 1_500_000)} for row in again])
        good(report, "re-sent with a new created_at: new versions", pipe.run(), 6)
        report.same("stored again", compare(box, pipe))
        box.ask("optimize", {})
        good(report, "after the merge: nothing new", pipe.run(), 0)


@case
def deleted_between_pages(report, box):
    """Rows that vanish while the run reads: no failure, and nothing else is lost."""
    with Pipe(box, page_size=300) as pipe:
        box.fault("delay", seconds=0.2, body="cityHash64.distinct_id., timestamp, uuid")

        def delete(*_):
            for number in range(4):
                time.sleep(0.7)
                box.ask("delete", {"where": f"cityHash64(uuid, {number}) % 40 = 0 AND timestamp > '2026-07-01'"})

        before = int(box.sql("SELECT count() FROM events"))
        run = pipe.run(during=delete)
        box.ask("faults", method="DELETE")
        good(report, f"{before - int(box.sql('SELECT count() FROM events'))} rows deleted while it reads", run)
        difference = compare(box, pipe)
        report.check("all that is left was read, nothing twice", difference.lost == 0 and difference.repeated == 0, str(difference))


@case
def very_old(report, box):
    """1970 stamps with `initial_since` before them; later ones with `late_arrival_days: 0`."""
    with Pipe(box, initial_since="1960-01-01", late_arrival_days=0) as pipe:
        good(report, "first run", pipe.run())
        report.same("with 1970 and 2035 in it", compare(box, pipe))
        arrived = {"distinct_id": "old"}
        box.ingest([{"event": "epoch", "timestamp": iso(n * 1_000_001), "properties": {}, **arrived} for n in range(7)])
        good(report, "second run: what was stamped 1970", pipe.run(), 7)
        box.ingest([{"event": "epoch", "timestamp": iso(n * 1_000_001), "properties": {}, **arrived} for n in range(7, 16)])
        good(report, "third run too", pipe.run(), 9)
        report.same("1970", compare(box, pipe))


@case
def one_instant(report, box):
    """5,000 and 50,000 events on one microsecond; one distinct_id with many events in a day; edges of a UTC day."""
    base = now_us() // DAY_US * DAY_US - 2 * DAY_US
    arrived = iso(now_us() - HOUR)
    for count, event in ((5_000, "burst 5k"), (50_000, "burst 50k")):
        box.ask("ingest", {"generate": {"count": count, "timestamp": iso(base + 43_200_000_001), "event": event, "created_at": arrived}})
    box.ask("ingest", {"generate": {"count": 30_000, "timestamp": iso(base + DAY_US), "event": "one id", "distinct_id": "busy", "step_us": 2_000_000, "created_at": arrived}})
    box.ingest([{"event": "edge", "timestamp": iso(base + day * DAY_US + offset), "created_at": arrived, "distinct_id": f"u{day}", "properties": {}}
                for day in range(3) for offset in (-1, 0, 1, DAY_US - 1)])
    for page_size in (None, 700, 4_999):
        with Pipe(box, page_size=page_size) as pipe:
            box.forget()
            run = pipe.run()
            good(report, f"page_size {page_size}", run)
            report.same(f"bursts, page_size {page_size}", compare(box, pipe))
            proved, slices = run.proof() or (0, -1)
            report.check(f"page_size {page_size}: proved", proved == slices, f"{proved} of {slices} slices, {len(box.queries())} queries")


@case
def small_pages(report, box):
    """Every page size from 1 to 20."""
    for page_size in range(1, 21):
        with Pipe(box, page_size=page_size, initial_since="2026-11-01T08:00:00Z", until="2026-11-01T08:30:00Z") as pipe:
            box.forget()
            good(report, f"page_size {page_size}", pipe.run())
            asked = [int(q["sql"].rsplit("LIMIT ", 1)[1]) for q in box.queries() if PAGE in q["sql"]]
            report.check(f"page_size {page_size} is kept to", asked and max(asked) <= page_size, f"{len(asked)} pages, largest LIMIT {max(asked, default=0)}")
            report.same(f"page_size {page_size}", compare(box, pipe, "timestamp < '2026-11-01 08:30:00'"))


@case
def terminated(report, box):
    """SIGTERM: whole lines, the last safe STATE, exit 143; the next run completes the files."""
    with Pipe(box, page_size=500) as pipe:
        box.fault("delay", seconds=3, body="cityHash64.distinct_id., timestamp, uuid")

        def terminate(tap, _):
            while tap.poll() is None and sum(PAGE in q["sql"] for q in box.queries()) < 6:
                time.sleep(0.05)
            tap.send_signal(signal.SIGTERM)

        run = pipe.run(during=terminate)
        report.check("SIGTERM: exit 143, the target ends well", (run.tap_code, run.target_code) == (143, 0), run.says())
        box.ask("faults", method="DELETE")
        partly = compare(box, pipe)
        report.check("SIGTERM: part was read, nothing twice", 0 < partly.files < partly.stored and not partly.repeated, str(partly)[:200])
        report.check("SIGTERM: the state has a cursor", "cursor" in json.dumps(run.states[-1:]), run.states[-1:])
        good(report, "SIGTERM: the next run", pipe.run())
        report.same("SIGTERM", compare(box, pipe))


@case
def limited_in_time(report, box):
    """`--max-runtime`: exit 75; the next run finishes the same closed set and then opens a new one."""
    with Pipe(box, page_size=500) as pipe:
        box.fault("delay", seconds=3, body="cityHash64.distinct_id., timestamp, uuid")
        run = pipe.run("--max-runtime", "6")
        report.check("--max-runtime: exit 75, the target ends well", (run.tap_code, run.target_code) == (75, 0), run.says())
        horizon = json.loads(run.states[-1])["bookmarks"]["events"]["run"]["horizon"]
        box.ingest([{"event": "meanwhile", "timestamp": iso(now_us() - HOUR * n), "distinct_id": f"u{n}", "properties": {}} for n in range(30)])
        box.ask("faults", method="DELETE")
        box.forget()
        good(report, "--max-runtime: the next run", pipe.run())
        pages = [q["sql"] for q in box.queries() if PAGE in q["sql"]]
        first, last = iso(horizon)[:19].replace("T", " "), pages[-1]
        report.check("--max-runtime: it goes on with the same horizon, then opens a new set", first in pages[0] and first not in last.split("created_at <")[1][:60], f"{first}: {pages[0][-400:]}")
        report.same("--max-runtime", compare(box, pipe))


@case
def changed_filters(report, box):
    """A filter that changed while a set is half read is refused with exit 3; another project's state too; changed between runs warns."""
    with Pipe(box, page_size=500) as pipe:
        box.fault("delay", seconds=3, body="cityHash64.distinct_id., timestamp, uuid")
        run = pipe.run("--max-runtime", "6")
        box.ask("faults", method="DELETE")
        report.check("a half read set", run.tap_code == 75, run.says() if run.tap_code != 75 else "")
        for name, value in {"initial_since": "2026-08-01", "until": "2026-10-01", "event_types": ["purchase"], "project_id": 3}.items():
            old = pipe.config.get(name)
            pipe.config[name] = value
            code, out, err = pipe.tap()
            last = err.strip().splitlines()[-1] if err.strip() else ""
            named = name in err or name == "project_id" and "belongs to" in err
            report.check(f"changed {name} with a cursor: exit 3, named, nothing on stdout", (code, named, "RECORD" in out) == (3, True, False), f"exit {code}: {last[:160]}")
            pipe.config[name] = old
        good(report, "as it was: goes on", pipe.run())
        pipe.config["event_types"] = ["purchase"]
        code, out, err = pipe.tap()
        report.check("changed between runs: one warning", code == 0 and err.count("event_types changed") == 1, err[-300:] if code else "")


@case
def planned_only(report, box):
    """`--plan` counts and never reads events."""
    with Pipe(box) as pipe:
        box.forget()
        code, out, err = pipe.tap("--plan", "--format=text")
        report.check("--plan: exit 0 with a chart", code == 0 and "█" in out, (out or err)[-300:])
        stored = int(box.sql(f"SELECT count() FROM events WHERE team_id = 1 AND timestamp >= toDateTime64('{SINCE}', 6, 'UTC')"))
        report.check("--plan: the rows that are stored", f"{stored} rows to read" in out, out)
        told = int(re.search(r"about \d+ requests, (\d+) MB read", out).group(1))
        queries = [q["sql"] for q in box.queries()]
        reading = [sql for sql in queries if "properties" in sql or "uuid" in sql]
        report.check(f"--plan: {len(queries)} queries, none reads events", queries and not reading, reading[:1])
        report.check("--plan: careful queries", not box.careless(), box.careless()[:2])
        box.forget()
        good(report, "--plan: the run", pipe.run())
        read = sum(q.get("bytes_read") or 0 for q in box.queries()) / 1e6
        # The plan counts 2,000 bytes a row, and these rows have 1,400: it tells twice as much (14 MB of 7).
        report.check("--plan: the bytes that the run reads", 1 < told / read < 2.5, f"told {told} MB, read {read:.0f} MB")


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--only", nargs="*")
    given = arguments.parse_args()
    report = Report("box_late")
    fresh = {"deleted_between_pages", "one_instant", "stored_again"}
    chosen = [function for function in CASES if not given.only or function.__name__ in given.only]
    for timezone in ("UTC", "America/Los_Angeles"):
        small = {"late_arrivals", "very_old", "limited_in_time"}  # in a project with daylight saving too
        cases = [function for function in chosen if timezone == "UTC" or function.__name__ in small]
        if not cases:
            continue
        with Box(5_000, timezone) as box:
            for function in cases:
                if function.__name__ not in fresh:
                    perform(report, box, function, timezone)
        for function in cases:
            if function.__name__ in fresh:
                with Box(5_000, timezone) as box:
                    perform(report, box, function, timezone)
    report.end()


def perform(report, box, function, timezone):
    print(f"---- {function.__name__}, project in {timezone}", flush=True)
    box.forget()
    function(report, box)


if __name__ == "__main__":
    main()
