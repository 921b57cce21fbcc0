#!/usr/bin/env python3
"""The questions of integrations/sql, asked of the demo's output in DuckDB (through views.sql), ClickHouse (chdb) and polars: each
has an answer, and all three give the same. Builds the demo with cargo; needs duckdb, chdb, polars."""
import datetime, glob, json, os, re, subprocess, tempfile

import chdb.session, duckdb, polars

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
passed = failed = 0


def check(name, ok, seen=""):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    print("ok  " if ok else "FAIL", name, "" if ok else seen)


def questions(engine):
    """The questions by the words above them."""
    text = open(os.path.join(ROOT, "integrations", "sql", engine + ".sql")).read()
    return dict(re.findall(r"^-- ([^\n]*\?)\n(.*?);$", text, re.DOTALL | re.MULTILINE))


def plain(rows):
    def value(value):
        if isinstance(value, (datetime.date, datetime.datetime)):
            return str(value)
        return round(float(value), 6) if isinstance(value, (int, float)) or str(value).isdigit() else value
    return [tuple(map(value, row)) for row in rows]


def in_duckdb(out):
    db = duckdb.connect()
    # Days are those of UTC, wherever the reader sits.
    db.execute("SET TimeZone = 'Asia/Tokyo'")
    db.execute(open(os.path.join(out, "views.sql")).read())
    return lambda query: db.execute(query).fetchall()


def in_clickhouse(out):
    session = chdb.session.Session()
    text = open(os.path.join(ROOT, "integrations", "sql", "clickhouse.sql")).read()
    view = re.search(r"^CREATE VIEW.*?;$", text, re.DOTALL | re.MULTILINE)[0]
    session.query(view.replace("output/", out + "/"))
    return lambda query: map(json.loads, str(session.query(query, "JSONCompactEachRow")).splitlines())


def in_polars(out):
    files = sorted(glob.glob(out + "/events/**/*.parquet", recursive=True), key=os.path.basename, reverse=True)
    events = polars.scan_parquet(files, hive_partitioning=False, missing_columns="insert", extra_columns="ignore")
    context = polars.SQLContext(events=events)
    return lambda query: context.execute(query, eager=True).rows()


with tempfile.TemporaryDirectory() as work:
    demo = os.path.join(work, "demo")
    made = subprocess.run(["cargo", "run", "--quiet", "--example", "demo", demo], cwd=ROOT, capture_output=True, text=True)
    check("the demo runs", made.returncode == 0, made.stdout[-500:] + made.stderr[-500:])
    out = os.path.join(demo, "out")
    answers = {}
    for engine, open_engine in {"duckdb": in_duckdb, "clickhouse": in_clickhouse, "polars": in_polars}.items():
        ask, asked = open_engine(out), questions(engine)
        check(f"{engine} has five questions", len(asked) == 5, list(asked))
        answers[engine] = {question: plain(ask(query)) for question, query in asked.items()}
    for question, answer in answers["duckdb"].items():
        same = all(answers[engine].get(question) == answer for engine in answers)
        check(question, answer and same, {engine: answers[engine].get(question, [])[:3] for engine in answers})

print(f"sql_questions: {passed} passed, {failed} failed")
raise SystemExit(failed > 0)
