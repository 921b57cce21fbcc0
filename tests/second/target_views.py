#!/usr/bin/env python3
"""`views.sql`, read by DuckDB: each stream, the newest row of each key, and events with the person of today, also where persons
were merged. Needs duckdb. TARGET_PARQUET names the binary."""
import json, os, subprocess, tempfile

import duckdb

BINARY = os.environ.get("TARGET_PARQUET", "target/release/target-parquet")
passed = failed = 0


def check(name, seen, wanted):
    global passed, failed
    ok = seen == wanted
    passed, failed = passed + ok, failed + (not ok)
    print("ok  " if ok else "FAIL", name, "" if ok else f"{seen} is not {wanted}")


TEXT = {"type": ["null", "string"]}
TIME = {"type": ["null", "string"], "format": "date-time"}


def schema(stream, keys, bookmarks, **more):
    properties = {name: TEXT for name in keys} | more
    return {"type": "SCHEMA", "stream": stream, "key_properties": keys, "bookmark_properties": bookmarks, "schema": {"properties": properties}}


def record(stream, version=None, **record):
    return {"type": "RECORD", "stream": stream, "record": record} | ({"version": version} if version else {})


EVENTS = schema("events", ["uuid", "event", "distinct_id"], ["created_at"], created_at=TIME, person_id=TEXT)
IDS = schema("person_distinct_ids", ["distinct_id"], [], person_id=TEXT)
PERSONS = schema("persons", ["id"], [], properties_email=TEXT)


def event(uuid, who, person, second):
    return record("events", uuid=uuid, event="e", distinct_id=who, person_id=person, created_at=f"2026-03-01T00:00:{second:02}Z")


def full(stream, version, rows):
    return [record(stream, version, **row) for row in rows] + [{"type": "ACTIVATE_VERSION", "stream": stream, "version": version}]


def persons(version, belongs, emails):
    rows = [{"distinct_id": who, "person_id": person} for who, person in belongs.items()]
    return [IDS, *full("person_distinct_ids", version, rows), PERSONS, *full("persons", version, [{"id": p, "properties_email": m} for p, m in emails.items()])]


def run(work, state, *lines):
    config = os.path.join(work, "c.json")
    json.dump({"destination_path": os.path.join(work, "it's [out]")}, open(config, "w"))
    text = "".join(json.dumps(line) + "\n" for line in [*lines, {"type": "STATE", "value": state}])
    ran = subprocess.run([BINARY, "--config", config], input=text, capture_output=True, text=True)
    check("the target ends well", (ran.returncode, "not up to date" in ran.stderr), (0, False))
    return open(os.path.join(work, "it's [out]", "views.sql")).read()


def rows(views, query):
    with duckdb.connect() as db:
        db.execute(views)
        return db.execute(query).fetchall()


def names(views):
    return rows(views, "SELECT view_name FROM duckdb_views() WHERE NOT internal ORDER BY 1")


with tempfile.TemporaryDirectory() as work:
    views = run(work, 1, EVENTS, event("u1", "a", "p1", 1), event("u2", "b", "p2", 2), *persons(1, {"a": "p1", "b": "p2"}, {"p1": "one", "p2": "two"}))
    check("a full table needs no newest rows", names(views), [("events",), ("events_latest",), ("events_with_person",), ("person_distinct_ids",), ("persons",)])
    today = "SELECT uuid, person_id, person_id_today, person_today.properties_email FROM events_with_person ORDER BY uuid"
    check("before a merge", rows(views, today), [("u1", "p1", "p1", "one"), ("u2", "p2", "p2", "two")])
    # b turned out to be a; the event u1 was stored again, and came behind its newer version; c is nobody that PostHog knows.
    views = run(work, 2, EVENTS, event("u1", "a", "new", 9), event("u1", "a", "old", 5), event("u3", "c", "p3", 3), *persons(2, {"a": "p1", "b": "p1"}, {"p1": "one"}))
    check("all versions", rows(views, "SELECT count(*) FROM events"), [(5,)])
    check("the newest version", rows(views, "SELECT uuid, person_id FROM events_latest ORDER BY uuid"), [("u1", "new"), ("u2", "p2"), ("u3", "p3")])
    check("after a merge", rows(views, today), [("u1", "new", "p1", "one"), ("u2", "p2", "p1", "one"), ("u3", "p3", "p3", None)])
    # Of rows that have the same bookmark the one that came last counts, over commits and in one file.
    LIST = schema("flags", ["id"], ["updated_at"], updated_at=TIME, v=TEXT)
    flag = lambda id, v, at="2026-03-01T00:00:00Z": record("flags", id=id, v=v, updated_at=at)
    run(work, 3, LIST, flag("x", "1"), flag("y", "1", None))
    run(work, 4, LIST, flag("x", "2"), flag("y", "2"), flag("z", "1"), flag("z", "2"))
    views = run(work, 5, schema("flags", ["id"], ["updated_at"], updated_at=TIME, v=TEXT, more=TEXT), record("flags", id="y", v="3", more="m", updated_at="2026-03-01T00:00:00Z"))
    check("the row that came last", rows(views, "SELECT id, v, more FROM flags_latest ORDER BY id"), [("x", "2", None), ("y", "3", "m"), ("z", "2", None)])

print(f"target_views: {passed} passed, {failed} failed")
raise SystemExit(failed > 0)
