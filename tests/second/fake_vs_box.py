"""Keeps the fake PostHog of the test suite honest.

`cargo test` holds the fake to tests/fake/vectors/answers.json: rows, queries, and the answer to each query. This script
ingests the same rows into a running posthog-box, asks the same queries and compares the answers with the same file.
Two boxes are needed, one per time zone:

    python3 tests/second/fake_vs_box.py UTC=http://127.0.0.1:8031 America/Los_Angeles=http://127.0.0.1:8032
    ... --write      takes the vectors anew

The rows lie in the year 2031, which posthog-box's own data leaves empty. They are removed first.
"""
import json
import os
import random
import sys
import urllib.error
import urllib.request

VECTORS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fake", "vectors", "answers.json")
YEAR = "timestamp >= toDateTime64('2031-01-01 00:00:00.000000', 6, 'UTC') AND timestamp < toDateTime64('2032-01-01 00:00:00.000000', 6, 'UTC')"
KEY_ORDER = "ORDER BY toDate(timestamp), event, cityHash64(distinct_id), timestamp, uuid"
NAMES = ["$pageview", "$autocapture", "purchase", "Purchase", "naïve événement 🎉", "it's", "back\\slash", "a{x}b", "line\nbreak", "", "%", "zz"]


DUPLICATES = [3, 50]


def literal(text):
    """A string as PostHog's own escaper writes it."""
    table = {"\b": "\\b", "\f": "\\f", "\r": "\\r", "\n": "\\n", "\t": "\\t", "\a": "\\a", "\v": "\\v", "\\": "\\\\", "'": "\\'"}
    return "'" + "".join(table.get(c, c) for c in text) + "'"


def make_events():
    rng = random.Random(31)
    uuid = lambda: "%08x-%04x-4%03x-8%03x-%012x" % tuple(rng.getrandbits(n) for n in (32, 16, 12, 12, 48))  # noqa: E731
    instants = ["2031-03-09T09:59:59.5Z", "2031-03-09T10:00:00Z", "2031-11-02T08:30:00Z", "2031-11-02T09:30:00Z", "2031-06-30T23:59:59.999999Z", "2031-07-01T00:00:00Z"]
    instants += [f"2031-07-0{rng.randint(1, 3)}T{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}.{fraction}Z" for fraction in ("000", "123", "123456", "100", "999999", "000001") for _ in range(4)]
    events = []
    for number in range(100):
        properties = json.dumps({"n": number, "text": rng.choice(["plain", "é🎉", "quote\"d", "tab\t"])}, ensure_ascii=number % 2 == 0)
        events.append({"uuid": uuid(), "event": rng.choice(NAMES), "distinct_id": rng.choice(["user_1", "user_2", "ünïcode", "a" * 70, "x"]), "timestamp": rng.choice(instants),
                       "created_at": f"2031-07-0{rng.randint(1, 4)}T{rng.randint(0, 23):02}:00:{rng.randint(0, 59):02}.{rng.choice(['000', '250', '999999'])}Z", "person_id": uuid(), "properties": properties})
    return events + [dict(events[number]) for number in DUPLICATES]


def make_queries(events):
    """(SQL, fields of the answer that are compared, whether times are in the project's zone)"""
    full = ["status", "columns", "types", "results", "hasMore", "limit"]
    data = ["status", "columns", "results"]
    text = ["status", "code", "detail"]
    page = f"SELECT uuid, event, distinct_id, timestamp, created_at, event_person_id AS person_id, properties, cityHash64(distinct_id) AS key_hash FROM events WHERE {YEAR}"
    middle = sorted(e["uuid"] for e in events)[50]
    out = [
        (f"{page} {KEY_ORDER} LIMIT 500", full, False),
        (f"{page} {KEY_ORDER} LIMIT 37", full, False),
        (f"{page} {KEY_ORDER}", full, False),
        (f"SELECT uuid, timestamp, created_at, toDate(timestamp) AS day FROM events WHERE {YEAR} ORDER BY timestamp, uuid LIMIT 200", data, True),
        (f"SELECT toDate(timestamp) AS day, count() AS rows FROM events WHERE {YEAR} GROUP BY day ORDER BY day LIMIT 50", full, False),
        (f"SELECT toDate(timestamp) AS day, count() AS rows FROM events WHERE {YEAR} GROUP BY day ORDER BY day LIMIT 50", full, True),
        *((f"SELECT toDate(timestamp) AS day, event, min({number}) AS least, max({number}) AS most, count() AS rows FROM events WHERE {YEAR} GROUP BY day, event, bitShiftRight({number}, {shift}) ORDER BY day, event, least LIMIT 500", full, False)
          for number, shift in (("cityHash64(distinct_id)", 58), ("cityHash64(uuid)", 62), ("toUnixTimestamp64Milli(timestamp) - 1924905600000", 24))),
        (f"SELECT toDate(timestamp) AS day, event, min(cityHash64(uuid)) AS least, max(timestamp) AS last FROM events WHERE {YEAR} GROUP BY day, event ORDER BY day, event LIMIT 500", full, False),
        (f"SELECT toUnixTimestamp(toStartOfHour(created_at)) AS hour, count() AS rows FROM events WHERE {YEAR} GROUP BY hour ORDER BY hour LIMIT 500", full, False),
        (f"SELECT count() AS rows, uniqExact(tuple(toDate(timestamp), event, distinct_id, uuid)) AS identities FROM events WHERE {YEAR} LIMIT 1", full, False),
        (f"SELECT event, countIf(distinct_id = 'x'), countIf(isNull(created_at)) AS silent FROM events WHERE {YEAR} GROUP BY event ORDER BY event DESC LIMIT 50", data, False),
        (f"SELECT uuid FROM events WHERE {YEAR} AND uuid > toUUID('{middle}') ORDER BY uuid LIMIT 200", data, False),
        (f"SELECT count() AS rows FROM events WHERE {YEAR} AND cityHash64(distinct_id) >= 9223372036854775808 AND cityHash64(distinct_id) < 18446744073709551615 LIMIT 1", full, False),
        (f"SELECT count() AS rows FROM events WHERE {YEAR} AND created_at > timestamp - toIntervalDay(1) AND created_at <= timestamp LIMIT 1", data, False),
        (f"SELECT count() AS rows FROM events WHERE toDate(timestamp) = toDate('2031-07-01') LIMIT 1", data, True),
        (f"SELECT count() AS rows FROM events WHERE {YEAR} AND toStartOfHour(created_at) = toDateTime64('2031-07-02 05:00:00.000000', 6, 'UTC') LIMIT 1", data, False),
        (f"SELECT person_mode, `$group_0`, \"$session_id\", $window_id, elements_chain FROM events WHERE {YEAR} LIMIT 2", data, False),
        (f"SELECT event, uuid FROM events WHERE {YEAR} {KEY_ORDER} LIMIT 2 BY event LIMIT 15", data, False),
        (f"SELECT event, distinct_id FROM events WHERE {YEAR} {KEY_ORDER} LIMIT 1 BY distinct_id LIMIT 50", data, False),
        (f"SELECT count() AS rows, uniqExact(uuid) AS ids FROM events WHERE {YEAR} AND event = 'no such' LIMIT 1", full, False),
        (f"SELECT count() AS rows FROM events WHERE {YEAR} AND event IN ('purchase', '', 'zz') AND toDate(timestamp) >= toDate('2031-07-01') LIMIT 1", data, False),
        (f"SELECT event, timestamp FROM events WHERE {YEAR} ORDER BY event DESC, timestamp DESC, uuid LIMIT 30", data, False),
        ("SELECT uuid, event, timestamp, person_mode, properties, created_at FROM events LIMIT 0", full, False),
        ("SELECT 1, 'a', true, NULL, 18446744073709551615, tuple(1, 'b') LIMIT 1", data, False),
        ("SELECT toDateTime64('2031-07-01 01:02:03.4', 6, 'UTC') AS t, toDate('2031-07-01') AS d, toUUID('019fbc99-bec2-7afe-a3d9-f07224cdf735') AS u LIMIT 1", full, False),
        ("SELECT cityHash64('') AS a, cityHash64('user_1') AS b, bitShiftRight(cityHash64('x'), 58) AS c LIMIT 1", full, False),
        ("SELECT event, timestamp FROM events GROUP BY event LIMIT 1", ["status", "code"], False),
        ("SELECT nope FROM events LIMIT 1", text, False),
        ("SELECT event FROM eventz LIMIT 1", text, False),
        ("SELECT event FROM events LIMIT 1 OFFSET 2", text, False),
        ("SELECT event FROM events FINAL LIMIT 1", text, False),
        ("SELECT event FROM events WHERE event = {x} LIMIT 1", ["status", "code"], False),
        ("SELECT sipHash64(event) FROM events LIMIT 1", ["status", "code"], False),
        ("SELECT now64() LIMIT 1", ["status", "code"], False),
        ("SELEC 1", ["status", "code"], False),
        ("SELECT event FROM events WHERE event = 'a LIMIT 1", ["status", "code"], False),
        ("SELECT event AS a, uuid AS a FROM events LIMIT 1", text, False),
        ("SELECT event FROM events WHERE event IN () LIMIT 1", ["status", "code"], False),
        ("SELECT event FROM events WHERE toDateTime64('2026', 6, 'UTC') < timestamp LIMIT 1", ["status", "code"], False),
        ("SELECT event FROM events WHERE uuid = toUUID('zzz') LIMIT 1", ["status", "code"], False),
        ("SELECT event FROM events WHERE count() > 1 LIMIT 1", ["status", "code"], False),
        ("SELECT count(*) FROM events LIMIT 1", text, False),
        ("SELECT '\\q' LIMIT 1", ["status", "code"], False),
        ("SELECT 'a''b', '\\a\\b\\f\\n\\r\\t\\v\\0\\\\\\'', '\\\\n', '{x}', 'é🎉' LIMIT 1", ["status", "results"], False),
    ]
    for name in NAMES:
        out.append((f"SELECT count() AS rows FROM events WHERE {YEAR} AND event = {literal(name)} LIMIT 1", data, False))
        out.append((f"SELECT count() AS rows FROM events WHERE {YEAR} AND event >= {literal(name)} LIMIT 1", data, False))
    return out


def post(url, body):
    request = urllib.request.Request(url, data=json.dumps(body).encode(), headers={"Authorization": "Bearer phx_box_full", "Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return dict(json.load(answer), status=200)
    except urllib.error.HTTPError as error:
        return dict(json.load(error), status=error.code)


def ask(base, sql, convert):
    modifiers = {} if convert else {"convertToProjectTimezone": False}
    return post(base + "/api/projects/1/query/", {"refresh": "force_blocking", "query": {"kind": "HogQLQuery", "query": sql, "modifiers": modifiers}})


def fill(base, events):
    post(base + "/__box/delete", {"since": "2031-01-01", "until": "2032-01-01"})
    new = len(events) - len(DUPLICATES)  # ClickHouse collapses what comes in one insert
    for part in (events[:new], events[new:]):
        post(base + "/__box/ingest", {"events": part})


def write(boxes):
    events = make_events()
    cases = []
    for zone, base in boxes.items():
        fill(base, events)
        for sql, fields, convert in make_queries(events):
            if zone != "UTC" and not convert and KEY_ORDER + " LIMIT 37" not in sql:
                continue  # the project's zone cannot show
            answer = ask(base, sql, convert)
            cases.append({"zone": zone, "sql": sql, "convert": convert, **{field: answer.get(field) for field in fields}})
    with open(VECTORS, "w") as out:
        lines = lambda items: ",\n".join(json.dumps(item, ensure_ascii=False) for item in items)  # noqa: E731
        out.write('{"events": [\n' + lines(events) + '\n], "cases": [\n' + lines(cases) + "\n]}\n")
    print(f"{len(cases)} cases written")


def compare(boxes):
    with open(VECTORS) as file:
        vectors = json.load(file)
    passed = failed = 0
    for zone, base in boxes.items():
        fill(base, vectors["events"])
        for case in (case for case in vectors["cases"] if case["zone"] == zone):
            answer = ask(base, case["sql"], case["convert"])
            wrong = [field for field in case if field not in ("zone", "sql", "convert") and answer.get(field) != case[field]]
            passed, failed = passed + (not wrong), failed + bool(wrong)
            for field in wrong:
                print(f"{zone}: {case['sql']}\n  {field}: the box says {answer.get(field)!r}\n  the vectors say {case[field]!r}")
    print(f"{passed} passed, {failed} failed")
    return failed == 0 and passed > 0


if __name__ == "__main__":
    named = dict(argument.split("=", 1) for argument in sys.argv[1:] if "=" in argument)
    if not named:
        sys.exit(__doc__)
    sys.exit(write(named) if "--write" in sys.argv else not compare(named))
