"""The seed's claims (features.md, A.5), row by row: what is run, what came out, and whether it is what the row asks for.

    python tests/long/seed_claims.py [--rows ROW...]

Made for a reader: `$BOX` is posthog-box, keys are cut. `differs` is what the program does otherwise than the row's words,
`--` what cannot be shown here. Rows 25, 27 and 28 are not about the two programs' output and are shown by other tests.
"""
import argparse
import json
import random
import time
import traceback

from seed_walk import HOUR, MINUTE, PAGES, ROWS, Gate, Others, Walk, Walked, events, good, last, name_box, records, row, says, schema
from box import DAY_US, KEY, Box, compare, iso, now_us  # noqa: I001, found by seed_walk
from box_pipe import check_columns, exact, rebuilt, without_nulls
import seed_claims_rest  # noqa: F401, rows 13 to 26

MOSTLY_WAIT = (16, 17, 26)


@row(1, "Full HogQL Query API with automatic pagination")
def pagination(walk, box):
    day = now_us() - 2 * DAY_US
    box.ask("ingest", {"generate": {"count": 20_000, "timestamp": iso(day), "event": "hot", "created_at": iso(day)}})
    with Gate(walk, "$GATE", box) as gate, Walked(walk, box, event_types=["hot"], page_size=1_000, custom_base_url=gate.url) as pipe:
        box.forget()
        run = pipe.run()
        uuids = pipe.rows_of("events", "count() AS all, count(DISTINCT uuid) AS uuids, count(DISTINCT timestamp) AS instants")[0]
        walk.check("20,000 events of one microsecond, each uuid once", (run.tap_code, *uuids.values()) == (0, 20_000, 20_000, 1), uuids)
        walk.same("as stored", compare(box, pipe, "event = 'hot'"))
        posts = [(method, path) for method, path, _ in gate.seen if method == "POST"]
        walk.check("all queries are POST /api/projects/1/query/ with a Bearer key", set(posts) == {("POST", "/api/projects/1/query/")} and all(h.get("authorization", "") == "Bearer " + KEY for _, _, h in gate.seen), f"{len(posts)} POSTs")
        pages = [query for query in box.queries() if "created_at LIMIT" in query["sql"]]
        walk.check("no answer holds more than page_size", max(page["rows"] for page in pages) == 1_000, f"{len(pages)} pages, the largest of {max(page['rows'] for page in pages)} rows")
        texts = box.sql("SELECT toString(uuid) FROM events WHERE event = 'hot' AND distinct_id = 'user_1' ORDER BY uuid").split("\n")
        falls = sum(one > two for one, two in zip(texts, texts[1:]))
        walk.note(f"the server's order of uuids is not that of their text: {falls} of {len(texts) - 1} neighbours fall")
    times = {"exactly full": [day + n for n in range(2_000)], "gap": [now_us() - n * 50 * DAY_US for n in (1, 2, 3)]}
    for name, moments in times.items():
        box.ingest(events(name, moments, distinct_id="one"))
        with Walked(walk, box, event_types=[name], page_size=1_000, initial_since="2026-06-01") as pipe:
            good(walk, {"exactly full": "2 full pages", "gap": "empty months between"}[name], pipe.run(), len(moments))
    with Walked(walk, box, event_types=["exactly full"], page_size=300) as pipe:
        box.fault("empty_results", next=1, skip=2, body=PAGES)
        good(walk, "a page that lies and is empty is no end", pipe.run(), 2_000)
        walk.check("the lie was told", box.fired() == 1)


@row(2, "SEEK, not OFFSET")
def seek(walk, box):
    truth = {"persons": "SELECT count() FROM (SELECT id FROM person WHERE team_id = 1 GROUP BY id HAVING argMax(is_deleted, version) = 0)", "person_distinct_ids": "SELECT uniqExact(distinct_id) FROM person_distinct_id2 WHERE team_id = 1",
             "sessions": "SELECT count() FROM (SELECT min(timestamp) AS began FROM events WHERE team_id = 1 AND notEmpty(`$session_id`) GROUP BY `$session_id`) WHERE began >= '2026-11-04' AND began < now()",
             "events": "SELECT uniqExact(uuid) FROM events WHERE team_id = 1 AND timestamp >= '2026-11-04' AND timestamp < '2026-11-05'"}
    for stream, sql in truth.items():
        with Walked(walk, box, data_type=stream, page_size=100, initial_since="2026-11-04", until="2026-11-05" if stream == "events" else None) as pipe:
            box.forget()
            code, out, _, _ = pipe.tap()
            queries, came = box.queries(), {tuple(record[key] for key in schema(out)["key_properties"]) for record in records(out, stream)}
            offsets = [query["sql"] for query in queries if "OFFSET" in query["sql"].upper()]
            walk.check(f"{stream}: zero OFFSET", code == 0 and not offsets and len(queries) > 2, f"{len(offsets)} of {len(queries)} queries; {len(came)} keys came")
            stored = int(box.sql(sql))
            walk.check(f"{stream}: all keys came, once", len(came) == len(records(out, stream)) == stored, f"{stored} stored, {len(came)} came")
            if stream == "person_distinct_ids":
                walk.note("its keyset: " + " ".join(queries[-2]["sql"].split())[-150:])
    walk.differs("the keyset of person_distinct_ids is distinct_id alone, which is its key, not (person_id, distinct_id)")


@row(3, "Incremental with state {last_run, seen_uuids}")
def states(walk, box):
    now = now_us() - 2_000_000
    groups = {"40 minutes ago": (4, 40), "20 minutes ago, in the lookback of last_run": (5, 20), "5 minutes ago, new": (6, 5)}
    uuids = {name: box.ingest(events("three", [now - minutes * MINUTE - n for n in range(count)])) for name, (count, minutes) in groups.items()}
    walk.note("stored: " + ", ".join(f"{count} of {name}" for name, (count, _) in groups.items()) + "; last_run is 10 minutes ago, seen_uuids names 3 of the 5")
    seed = {"last_run": iso(now - 10 * MINUTE)[:19], "seen_uuids": [uuid.upper() for uuid in uuids["20 minutes ago, in the lookback of last_run"][:3]]}
    forms = {"the seed's, at the root": (seed, 8), "the driver's, in events_state": ({"events_state": seed}, 8), "in bookmarks": ({"bookmarks": {"events": seed}}, 8), "empty": ({}, 15),
             "unknown members": ({"z": [1.50], "bookmarks": {"other": {"x": 1}}}, 15)}
    for name, (state, rows) in forms.items():
        with Walked(walk, box, event_types=["three"]) as pipe:
            pipe.state = state
            good(walk, f"form: {name}", pipe.run(), rows)
            kept = json.loads(pipe.state)
            walk.check("it ends in a state of our own form", "replication_key_value" in kept["bookmarks"]["events"] and "last_run" not in kept and "events_state" not in kept, sorted(kept))
            if name == "unknown members":
                walk.check("what is not ours is carried through", kept["z"] == [1.5] and kept["bookmarks"]["other"] == {"x": 1})
            good(walk, "run 2 from that", pipe.run(), 0)
    with Walked(walk, box, event_types=["three"]) as pipe:
        good(walk, "our form: run 1", pipe.run(), 15)
        box.ingest(events("three", [now_us() - 3_000_000]))
        good(walk, "our form: run 2", pipe.run(), 1)
        ours = json.loads(pipe.state)
        for name, state, code in (("cut", pipe.state[:-9], 3), ("last_run is a number", {"last_run": 5}, 3), ("another project's", {"bookmarks": {"events": {**ours["bookmarks"]["events"], "source": "us.posthog.com/7"}}}, 3)):
            pipe.state = state
            walk.check(f"{name}: refused, nothing read", pipe.tap()[0] == code)
    with Walked(walk, box, event_types=["three"]) as pipe:
        pipe.state = {"last_run": iso(now_us() + DAY_US), "seen_uuids": []}
        run = pipe.run()
        walk.check("last_run is tomorrow: a warning, nothing read", (run.tap_code, run.rows()) == (0, 0) and "clock says" in run.tap_log, says(run.tap_log, "clock says"))
        pipe.state = {"last_run": iso(now_us() + 3 * MINUTE), "seen_uuids": []}
        run = pipe.run()
        box.ingest(events("three", [now_us() - 2_000_000]))
        good(walk, "last_run 3 minutes ahead (a clock that was wrong): what arrives still comes", pipe.run(), 1)


@row(4, "Lookback (default 15; driver allows 5-60)")
def lookback(walk, box):
    at = {"1 s": 1, "5 min": 300, "14 min 59 s": 899, "15 min, the edge": 900, "15 min 1 s": 901, "16 min": 960, "2 h": 7_200, "47 h": 47 * 3_600, "49 h": 49 * 3_600}
    with Walked(walk, box, event_types=["look"], initial_since=iso(now_us() - 40 * DAY_US)) as pipe:
        start = now_us()
        box.ingest(events("look", [start - 5 * MINUTE - n for n in range(10)]) + events("look", [start - 2 * HOUR - n for n in range(4)]))
        good(walk, "run 1", pipe.run(), 14)
        horizon = json.loads(pipe.state)["bookmarks"]["events"]["replication_key_value"]
        mark = int(box.sql(f"SELECT toUnixTimestamp64Micro(parseDateTime64BestEffort('{horizon}', 6, 'UTC'))"))
        for name, seconds in at.items():
            box.ingest(events("look", [mark - seconds * 1_000_000], distinct_id=name))
        run = pipe.run()
        found = {row["distinct_id"] for row in pipe.rows_of("events", "distinct_id")}
        for name in at:
            walk.check(f"became visible late, created_at = last run - {name}: {'not found, the README says so' if name == '49 h' else 'found'}", (name in found) != (name == "49 h"))
        repeated = run.rows() - 8
        walk.check("the 10 of the lookback do not repeat, and a warning names the hours that do", 0 <= repeated <= 4 and "became visible" in run.tap_log, f"{repeated} of the 4 in the hour of `2 h` repeat; {run.tap_log.count('became visible')} warnings")
        good(walk, "run 3", pipe.run(), 0)
        ages = {"1 min": 1, "14 min": 14, "16 min": 16, "1 h": 60, "1 day": 1_440, "6 days": 8_640, "8 days": 11_520}
        for name, minutes in ages.items():
            box.ingest(events("look", [now_us() - minutes * MINUTE], now_us() - 2_000_000, distinct_id="aged " + name))
        good(walk, "arrived now, stamped 1 min to 6 days ago come; 8 days is beyond late_arrival_days", pipe.run(), 6)
        found = {row["distinct_id"] for row in pipe.rows_of("events", "distinct_id")}
        walk.check("which ones", {f"aged {name}" for name in ages} - found == {"aged 8 days"}, sorted(name for name in found if "aged" in name))
    for minutes, name in ((0, "lookback 0"), (43_200, "lookback larger than the history")):
        with Walked(walk, box, event_types=[name], lookback_window_minutes=minutes, initial_since=iso(now_us() - 60 * DAY_US)) as pipe:
            box.ingest(events(name, [now_us() - 60_000_000 - n * HOUR for n in range(20)]))
            good(walk, f"{name}: run 1", pipe.run(), 20)
            good(walk, f"{name}: run 2", pipe.run(), 0)
            box.ingest(events(name, [now_us() - (5 * HOUR if minutes == 0 else 20 * DAY_US)]))
            run = pipe.run()
            missed = compare(box, pipe, f"event = '{name}'")
            walk.check(f"{name}: an event that became visible 5 h (20 days) late is found", run.tap_code == 0 and missed.lost == 0 and (minutes == 0 or run.rows() == 1), f"{run.rows()} rows; {missed.repeated} repeated")
    walk.differs("the lookback is over arrival (created_at), not over timestamp: a late event is found at any age up to late_arrival_days, whatever the lookback")


@row(5, '"Exactly-once" via lookback + uuid')
def exactly_once(walk, box):
    with Walked(walk, box, event_types=["once"]) as pipe:
        box.ask("ingest", {"generate": {"count": 12_000, "timestamp": iso(now_us() - 8 * MINUTE), "event": "once", "step_us": 20_000, "created_at": iso(now_us() - 5 * MINUTE)}})
        good(walk, "12,000 events inside the lookback, run 1", pipe.run(), 12_000)
        good(walk, "run 2", pipe.run(), 0)
        box.ingest(events("once", [now_us() - 9 * MINUTE - n for n in range(25)]))
        good(walk, "25 more, visible 9 minutes late, run 3", pipe.run(), 25)
        good(walk, "run 4", pipe.run(), 0)
        walk.same("0 lost, 0 repeated", compare(box, pipe, "event = 'once'"))
        walk.note(f"the state is {len(pipe.state)} bytes: {len(pipe.state) / 12_025:.1f} per event of the lookback")
    walk.differs("keys are uuid, event, distinct_id, because some SDKs use one uuid for several events; an event that is stored again comes out again")


@row(6, "dedup flag")
def dedup(walk, box):
    now = now_us()
    box.ingest(events("flag", [now - 5 * MINUTE - n for n in range(40)]) + events("flag", [now - 3 * HOUR - n for n in range(30)]))
    for flag in (True, False):
        with Walked(walk, box, event_types=["flag"], deduplication_enabled=flag) as pipe:
            good(walk, f"{flag}: run 1", pipe.run(), 70)
            good(walk, f"{flag}: run 2" + ("" if flag else ", the 40 of the lookback again"), pipe.run(), 0 if flag else 40)
    with Walked(walk, box, data_type="persons") as pipe:
        counts = []
        for flag in (True, False):
            pipe.config["deduplication_enabled"] = flag
            _, out, err, _ = pipe.tap()
            counts.append((len(records(out)), "WARN" in err))
        walk.check("persons: no effect, no warning", counts[0] == counts[1] and not counts[1][1], counts)


@row(7, "First run since initial_since or 30 days")
def first_run(walk, box):
    with Box(1_000, "America/Los_Angeles") as west:
        name_box(walk, west)
        day = 1_793_491_200_000_000  # 2026-11-01T00:00:00Z; at 09:00 the clocks of Los Angeles go back
        edges = {"2026-11-01T09:00:00Z": 9, "2026-11-01T11:00:00+02:00": 9, "2026-11-01 08:30:00": 8.5, "2026-11-01": 0}
        for text, hours in edges.items():
            since, until = int(day + hours * HOUR), day + DAY_US
            name = f"edge {text}"
            box_events = events(name, [since - 1, since, until - 1, until], now_us() - HOUR)
            west.ingest(box_events)
            with Walked(walk, west, event_types=[name], initial_since=text, until="2026-11-02T00:00:00Z") as pipe:
                run = pipe.run()
                got = sorted(iso(r["us"]) for r in pipe.rows_of("events", "epoch_us(timestamp) AS us")) if run.rows() else []
                walk.check(f"since {text}, of [-1 us, 0, end - 1 us, end] the middle two", got == [iso(since), iso(until - 1)], got)
                west.ingest(events(name, [since - 1, since - 10 * MINUTE], now_us() - 2_000_000))
                good(walk, "run 2, late ones from before since: the lookback is not subtracted", pipe.run(), 0)
        west.ingest(events("old", [1], now_us() - HOUR))
        west.ingest(events("month", [now_us() - 30 * DAY_US + HOUR, now_us() - 30 * DAY_US - HOUR], now_us() - HOUR))
        for name, since, rows in (("old", "1960-01-01", 1), ("old", "2090-01-01T00:00:00Z", 0), ("month", None, 1)):
            with Walked(walk, west, event_types=[name], initial_since=since) as pipe:
                good(walk, {"1960-01-01": "since before 1970: 1970-01-01T00:00:00.000001", None: "no initial_since: of 30 days less an hour, and 30 days and an hour"}.get(since, "since in the future"), pipe.run(), rows)
        with Walked(walk, west, initial_since="2026-13-01") as pipe:
            walk.check("no date: refused", pipe.tap()[0] == 3)


@row(8, "event_types filter")
def event_types(walk, box):
    names = ["it's", 'a "quoted" one', "back\\slash", "ends in \\", "new\nline", "nul\0byte", "100 %", "_", "%", "emoji 🎉", "a -- comment", "x\\') OR 1=1 --", "/* c */", "{filters}", "tab\t", "  spaces  ", "a\u2028b"]
    dice = random.Random(8)
    fuzz = ["".join(dice.choice("'\"\\\n\0%é🎉-;{}$`\r\b\x1a ") for _ in range(dice.randrange(1, 12))) for _ in range(60)]
    fuzz = sorted({name for name in fuzz if name.strip() and name not in names})
    now = now_us() - HOUR
    stored = {name: len(box.ingest(events(name, [now - n for n in range(1 + at % 3)]))) for at, name in enumerate(names + fuzz)}
    with Walked(walk, box, initial_since=iso(now - DAY_US)) as pipe:
        for wanted in [[name] for name in names] + [fuzz[::2]]:
            pipe.config["event_types"] = wanted
            box.forget()
            code, out, _, _ = pipe.tap()
            came = [record["event"] for record in records(out)]
            right = sorted(came) == sorted(name for name in wanted for _ in range(stored[name]))
            written = [query["sql"].split("event IN", 1)[1].split(" GROUP BY ", 1)[0][:60] for query in box.queries() if "event IN" in query["sql"]]
            what = ascii(wanted[0]) if len(wanted) == 1 else f"{len(wanted)} of {len(fuzz)} names made of such characters"
            walk.check(f"{what}: these and no others", code == 0 and right and written, f"{len(came)} events; event IN{ascii(written[0])[1:-1] if written and len(wanted) == 1 else ' (...)'}" if right else f"{came[:9]}")
        pipe.config["event_types"] = []
        came = records(pipe.tap()[1])
        every = int(box.sql(f"SELECT uniqExact(uuid) FROM events WHERE team_id = 1 AND timestamp >= toDateTime64('{iso(now - DAY_US)[:-1]}', 6, 'UTC')"))
        walk.check("an empty list means all", len(came) == every, f"{len(came)} of {every}")
        for blank in ([""], ["  "], ["ok", ""], [None]):
            pipe.config["event_types"] = blank
            code, _, err, _ = pipe.tap()
            walk.check(f"{blank}: refused by name", code == 3 and "event_types" in err, last(err))


@row(9, "page_size 100-10000 (default 1000)")
def page_sizes(walk, box):
    count = "SELECT uniqExact(uuid) FROM events WHERE team_id = 1 AND timestamp >= '{}' AND timestamp < '2026-11-05'"
    for size, since in ((100, "2026-11-03"), (1_000, "2026-10-25"), (10_000, "2026-10-25"), (50_000, "2026-10-25"), ("auto", "2026-10-25")):
        with Walked(walk, box, page_size=size, initial_since=since, until="2026-11-05") as pipe:
            box.forget()
            run, stored = pipe.run(), int(box.sql(count.format(since)))
            pages = [query for query in box.queries() if "created_at LIMIT" in query["sql"]]
            asked = max(int(query["sql"].rsplit("LIMIT ", 1)[1]) for query in pages)
            bound = 50_000 if size == "auto" else size
            walk.check(f"page_size {size}: {stored} events, no LIMIT above it", (run.tap_code, run.rows()) == (0, stored) and asked <= bound,
                       f"{len(pages)} pages, the largest LIMIT {asked}, the largest page {max(query['rows'] for query in pages)} rows; {run.tap_mb} MB tap, {run.target_mb} MB target")
    box.ingest(events("one by one", [now_us() - HOUR] * 10))
    with Walked(walk, box, event_types=["one by one"], page_size=1) as pipe:
        box.forget()
        good(walk, "pages of 1 row, all of one microsecond", pipe.run(), 10)
        walk.check("kept to", {query["rows"] for query in box.queries() if "created_at LIMIT 1" in query["sql"]} <= {0, 1}, f"{len(box.queries())} queries")
    box.ingest(events("wide", [now_us() - HOUR - n for n in range(60)], properties={"long": "wide " * 30_000}))
    with Walked(walk, box, event_types=["wide"], page_size=1_000, max_response_mb=2) as pipe:
        box.forget()
        good(walk, "60 rows of 150 kB each, answers of at most 2 MB: smaller pages", pipe.run(), 60)
        walk.note("rows per answer: " + " ".join(str(query["rows"]) for query in box.queries() if "created_at LIMIT" in query["sql"]))
        for bad in (0, 50_001, "many", -5, 1.5):
            pipe.config["page_size"] = bad
            code, _, err, _ = pipe.tap()
            walk.check(f"page_size {bad}: refused by name", code == 3 and "page_size" in err)
    walk.differs("without page_size it adapts between 1,000 and 50,000 rows; 1,000 is where it begins")


@row(10, "Flatten properties_*, person_properties_* on events")
def flatten(walk, _):
    odd = {"a.b": 1, "a": {"b": 2, "c": [1, {"d": None}]}, "$x": "dollar", "_x": "under", "x": "bare", "Plan": "A", "plan": "b", "PLAN": "C", "": "empty key", "nothing": None, "uuid": "not the uuid", "timestamp": "1999",
           "event": "clash", "nan": "NaN", "big": 9_007_199_254_740_993, "huge": 123456789012345678901234567890, "exponent": 1e308, "fraction": 0.1, "yes": True, "number or text": 5, "list": [1, "2", None], "brace text": "{not json",
           "quote\"'\\": "q", "line\n": "l\nl", "emoji 🎉": "🎉", "unmapped_properties": "u", "very " + "long " * 40: 1}
    with Box(1_000) as own:
        name_box(walk, own)
        at = now_us() - HOUR
        rows = [odd, {**odd, "number or text": "five", "big": 7, "a.b": "text now"}, {}, {"plan": None}]
        uuids = [own.ingest(events("odd", [at - n], properties=properties, person_properties={"Plan": "p", "n": n, "deep": {"x": 1}}))[0] for n, properties in enumerate(rows)]
        with Walked(walk, own, event_types=["odd"], initial_since=iso(at - DAY_US)) as pipe:
            good(walk, "odd properties", pipe.run(), len(rows))
            came = {record["uuid"]: record for record in pipe.arrow_rows()}
            for uuid, properties in zip(uuids, rows):
                ours = rebuilt(came[uuid], "properties_", "unmapped_properties")
                theirs, filled = without_nulls(exact(json.dumps(properties))), [key for key, value in came[uuid].items() if value is not None and key.startswith("properties_")]
                walk.check(f"{len(properties)} properties: columns and unmapped_properties rebuild them", ours == theirs, {key: (ours.get(key), theirs.get(key)) for key in {*ours, *theirs} if ours.get(key) != theirs.get(key)} or f"{len(filled)} in columns")
            first, second = came[uuids[0]], came[uuids[1]]
            walk.check("nested values are JSON text of one level, $ is kept, case twins are apart", (json.loads(first["properties_a"]), first["properties_$x"], first["properties__x"], first["properties_Plan"], first["properties_plan"], first["properties_"]) == (odd["a"], "dollar", "under", "A", "b", "empty key"), [name for name in first if name.startswith("properties_")][:12])
            twins = " ".join(sorted(name for name in pipe.rows_of("events")[0] if name.lower().startswith("properties_plan")))
            value = pipe.rows_of("events", "properties_plan AS value, uuid")
            walk.note(f"DuckDB's names know no case: it calls the twins {twins}, and SELECT properties_plan gives {[each['value'] for each in value if each['uuid'] == uuids[0]]}, the value of PLAN")
            walk.check("a property named uuid leaves the event's uuid alone", (first["uuid"], first["properties_uuid"]) == (uuids[0], "not the uuid"))
            walk.check("2^53 + 1 keeps its digits, a text in a number's column too", "9007199254740993" in first["unmapped_properties"] and json.loads(second["unmapped_properties"])["number or text"] == "five", f"unmapped: {first['unmapped_properties'][:120]}")
        own.ingest(events("many", [at], properties={f"key {n}": n for n in range(10_000)}))
        for most in (1_000, 4_900):
            with Walked(walk, own, event_types=["many"], max_property_columns=most, initial_since=iso(at - DAY_US)) as pipe:
                run = pipe.run()
                if not walk.check(f"10,000 keys, max_property_columns {most}: both programs end well", (run.tap_code, run.target_code) == (0, 0), f"{run.seconds:.0f} s; the target said: {last(run.target_log)}"):
                    continue
                came = pipe.arrow_rows()[0]
                walk.check("10,000 keys rebuild", rebuilt(came, "properties_", "unmapped_properties") == {f"key {n}": n for n in range(10_000)}, f"{sum(name.startswith('properties_') for name in came)} columns; {run.tap_mb} MB tap, {run.target_mb} MB target")
        with Walked(walk, own, initial_since="1969-12-31") as pipe:
            run = pipe.run()
            check_columns(walk, own, pipe, True)
        with Walked(walk, own, initial_since="1969-12-31", flatten_properties=False) as pipe:
            run = pipe.run()
            check_columns(walk, own, pipe, False)
    walk.note("NaN cannot stand in JSON; PostHog stores none as a number, so here it is a text")


@row(11, "persons: properties_* (README) vs person_properties_* (driver)")
def prefixes(walk, box):
    living = int(box.sql("SELECT count() FROM (SELECT id FROM person WHERE team_id = 1 GROUP BY id HAVING argMax(is_deleted, version) = 0)"))
    rows = {}
    for prefix in (None, "properties", "person_properties"):
        with Walked(walk, box, data_type="persons", persons_column_prefix=prefix) as pipe:
            run = pipe.run()
            came = pipe.rows_of("persons")
            names = sorted(name for name in came[0] if "properties" in name)
            expected = prefix or "properties"
            right = all(name.startswith((expected + "_", "unmapped_" + expected)) for name in names)
            rows[prefix] = sorted((str(person["id"]), *(person[name] for name in names)) for person in came)
            walk.check(f"persons_column_prefix {prefix or '(not given)'}: {living} persons", run.tap_code == 0 and right and len(came) == living, " ".join(names))
    walk.check("the same values under both names", len({json.dumps(values, default=str) for values in rows.values()}) == 1)
    with Walked(walk, box, data_type="persons", persons_column_prefix="p") as pipe:
        walk.check("another word: refused", pipe.tap()[0] == 3)


@row(12, "persons stream fields id, created_at, is_identified, properties")
def persons(walk, box):
    with Walked(walk, box, data_type="persons") as pipe:
        pipe.run()
        before = {str(person["id"]): person for person in pipe.rows_of("persons")}
        fields = list(next(iter(before.values())))
        walk.check("fields", {"id", "created_at", "is_identified", "properties_email"} <= set(fields), " ".join(fields))
        never = sum(not person["is_identified"] for person in before.values())
        walk.check("identified ones and never identified ones", 0 < never < len(before), f"{never} of {len(before)} never identified")
        changed = box.ask("person", {"distinct_id": "user_50", "properties": {"email": "new@example.com"}})["person_id"]
        merged = box.ask("merge", {"from": "user_60", "to": "user_61"})
        deleted = box.ask("person", {"distinct_id": "user_70", "delete": True})["person_id"]
        pipe.run()
        after = {str(person["id"]): person for person in pipe.rows_of("persons")}
        walk.check("run 2: the updated person is new, the merged and the deleted one are gone", after[changed]["properties_email"] == "new@example.com" and set(before) - set(after) == {merged["from"], deleted}, f"{len(before)} before, {len(after)} after; {before[changed]['properties_email']} -> {after[changed]['properties_email']}")
    with Walked(walk, box, data_type="persons", flatten_properties=False) as pipe:
        pipe.run()
        walk.check("with flatten_properties false: properties as an object", "properties" in pipe.rows_of("persons")[0], " ".join(pipe.rows_of("persons")[0]))
    with Walked(walk, box, data_type="person_distinct_ids") as pipe:
        pipe.run()
        moved = {str(each["person_id"]) for each in pipe.rows_of("person_distinct_ids") if each["distinct_id"] in merged["moved_distinct_ids"]}
        walk.check("distinct ids follow a merge", moved == {merged["to"]}, f"{len(merged['moved_distinct_ids'])} moved")
    walk.differs("distinct ids are the stream person_distinct_ids, not a field of persons")
    walk.not_shown("last_seen_at, and INCREMENTAL by it: the box's persons have none (tests/it/tap_persons.rs)")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", nargs="*", type=int, default=sorted(ROWS))
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--figures", action="store_true", help="end in a line of JSON, for the process that started this one")
    given = parser.parse_args()
    walk = Walk("seed_claims")
    waiting = [] if given.figures or set(given.rows) <= set(MOSTLY_WAIT) else [number for number in given.rows if number in MOSTLY_WAIT]
    walk.others = Others(__file__, waiting) if waiting else None
    with Box(given.events) as box:
        name_box(walk, box)
        print(f"posthog-box: {given.events} events of 128 days, ready after {time.monotonic() - walk.started:.0f} s" + (f"; rows {waiting} have a box of their own, at the same time" if waiting else ""))
        print('every posthog.json also holds {"api_key": "phx_...", "project_id": 1, "region": "self_hosted", "custom_base_url": "$BOX"} and rates that do not bind')
        for number in given.rows:
            if number in waiting:
                print("\n" + walk.others.block(number), flush=True)
                continue
            claim, function = ROWS[number]
            started = time.monotonic()
            walk.row(number, claim)
            box.forget()
            try:
                function(walk, box)
            except Exception as error:  # a row that breaks is a finding; the others still count
                walk.check(f"row {number} could be walked", False, f"{error!r} {traceback.format_exc()}")
            print(f"    ({time.monotonic() - started:.1f} s)", flush=True)
    if given.figures:
        print("figures")
        print(json.dumps([walk.passed, walk.failed, walk.differences, walk.heard_bytes, walk.heard_texts, walk.leaks]))
        return
    if waiting:
        passed, failed, differences = walk.others.figures()[:3]
        walk.passed, walk.failed, walk.differences = walk.passed + passed, walk.failed + failed, walk.differences + differences
    walk.end()


if __name__ == "__main__":
    main()
