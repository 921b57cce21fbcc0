#!/usr/bin/env python3
"""Files of one stream whose schema changed, united by each reader with the line of docs/files.md, which is read from there; types as
each reader sees them. Needs duckdb, polars, pyarrow, pandas, fastparquet; chdb (ClickHouse) and pyspark (with Java) where they are installed. TARGET_PARQUET names the binary."""
import datetime as dt, decimal, glob, json, os, re, subprocess, sys, tempfile
from urllib.parse import unquote
import duckdb, fastparquet, pandas as pd, polars as pl, pyarrow.dataset as ds, pyarrow as pa, pyarrow.parquet as pq
try:
    from pyspark.sql import SparkSession
    spark = (SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
             .config("spark.sql.session.timeZone", "UTC").config("spark.sql.timeType.enabled", "true").getOrCreate())
    spark.sparkContext.setLogLevel("OFF")
except Exception as e: print("skip Spark (pyspark or Java is not installed):", str(e)[:100]); spark = None

BINARY = os.path.abspath(os.environ.get("TARGET_PARQUET", "target/release/target-parquet"))
FILES_MD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/files.md")
passed = failed = 0


def check(name, ok, seen=""):
    global passed, failed
    passed, failed = passed + bool(ok), failed + (not ok)
    print("ok  " if ok else "FAIL", name, seen)


def documented(head):
    """The code of the table of docs/files.md with this head, by reader."""
    table = open(FILES_MD, encoding="utf-8").read().split(f"| reader | {head} |\n", 1)[1].split("\n\n", 1)[0]
    return {reader: re.findall(r"`([^`]+)`", how) for reader, how in re.findall(r"^\| ([^|]+) \| (.+) \|$", table, re.M)}


def python(line, **names):
    """What a line of docs/files.md gives, in the folder that holds `output`."""
    return eval(line, {"pl": pl, "pa": pa, "ds": ds, "pd": pd, "pq": pq, "spark": spark, "scan_parquet": pl.scan_parquet, "ParquetFile": fastparquet.ParquetFile, **names})


def schema(**more):
    return {"type": "SCHEMA", "stream": "s", "key_properties": ["id"], "schema": {"properties": {"id": {"type": "integer"}, **more}}}


def partitions(work):
    """Values that readers of folder names get wrong, read with the options of docs/files.md."""
    place = os.path.join(work, "parts"); os.mkdir(place); os.chdir(place)
    how = documented("how to read partitions"); out = os.path.join(place, "output"); config = os.path.join(work, "p.json"); json.dump({"destination_path": out, "partition_by": ["e", "i", "b", "f"]}, open(config, "w"))
    texts = [None, "", "__HIVE_DEFAULT_PARTITION__", "a/b=c%2F", "é" * 200, "007", "true", ".", " "]
    want = sorted(((n, e, n, n % 2 == 0, n + 0.5) for n, e in enumerate(texts)))
    schema = {"type": "SCHEMA", "stream": "s", "key_properties": ["id"], "schema": {"properties": {"id": {"type": "integer"}, "e": N("string"), "i": N("integer"), "b": N("boolean"), "f": N("number")}}}
    lines = [schema] + [{"type": "RECORD", "stream": "s", "record": dict(zip(("id", "e", "i", "b", "f"), row))} for row in want]
    ran = subprocess.run([BINARY, "--config", config], input="".join(json.dumps(l) + "\n" for l in lines), capture_output=True, text=True)
    folders = {os.path.relpath(p, out + "/s").split("/")[0] for p in glob.glob(out + "/s/**/*.parquet", recursive=True)}
    check("a folder for each value, and one for null and the empty text", ran.returncode == 0 and len(folders) == len(texts) - 1, ran.stderr[-200:] if ran.returncode else "")
    check("folders are text without their escapes", all(unquote(f, errors="strict") for f in folders))
    files = out + "/s/**/*.parquet"; names = ["id", "e", "i", "b", "f"]
    readers = {
        "DuckDB hive_partitioning=false": lambda: duckdb.sql(f"select id, e, i, b, f from {how['DuckDB'][0]}").fetchall(),
        "polars hive_partitioning=False": lambda: python(how["polars"][0]).select(names).rows(),
        "pyarrow ds.dataset": lambda: [tuple(r[n] for n in names) for r in python(how["pyarrow"][0]).to_table().to_pylist()],
        "pandas partitioning=None": lambda: [tuple(r[n] for n in names) for r in pa.Table.from_pandas(python(how["pandas"][0])).to_pylist()],
        "fastparquet file by file": lambda: [tuple(r) for f in glob.glob(files, recursive=True) for r in python(how["fastparquet"][0], f=f)[names].astype(object).values.tolist()],
        "pyarrow read_table partitioning=None": lambda: [tuple(r[n] for n in names) for r in python(how["pyarrow"][1]).to_pylist()],
    }
    if spark: readers["Spark recursiveFileLookup"] = lambda: list(map(tuple, python(how["Spark 4"][0].replace("output/", f"{place}/output/")).select(*names).collect()))
    try:
        import chdb
        readers["ClickHouse use_hive_partitioning=0"] = lambda: [tuple(map(json.loads(l).get, names)) for l in str(chdb.query(f"select id, e, i, b, f from file('{files}', Parquet) settings use_hive_partitioning=0, output_format_json_quote_64bit_integers=0", "JSONEachRow")).splitlines()]
    except ImportError: pass
    for name, read in readers.items():
        try: got = sorted(read())
        except Exception as e: got = str(e)[:200]
        check("partitions: " + name, got == want, "" if got == want else got)


N = lambda t, **k: {"type": ["null", t], **k}
lines = [
    schema(a=N("integer"), t=N("string", format="date-time")), {"type": "RECORD", "stream": "s", "record": {"id": 1, "a": 7, "t": "2026-03-01T02:00:00.000001+02:00"}},
    schema(a=N("string"), o=N("object"), t=N("string", format="date-time"), d=N("string", format="date"), price=N("number", multipleOf=0.01), c=N("string", format="time")),
    {"type": "RECORD", "stream": "s", "record": {"id": 2, "a": "text", "o": {"x": [1, "é"]}, "d": "2026-03-01", "price": 1.25, "c": "01:02:03.000004"}},
    {**schema(), "stream": "_a"}, {"type": "RECORD", "stream": "_a", "record": {"id": 1}}, {"type": "STATE", "value": {}},
]
with tempfile.TemporaryDirectory() as work:
    config = os.path.join(work, "c.json"); out = os.path.join(work, "output"); how = documented("how"); os.chdir(work); json.dump({"destination_path": out}, open(config, "w"))
    ran = subprocess.run([BINARY, "--config", config], input="".join(json.dumps(l) + "\n" for l in lines), capture_output=True, text=True)
    check("target ends well", ran.returncode == 0, ran.stderr[-200:] if ran.returncode else "")
    folder = out + "/s"; files = sorted(glob.glob(folder + "/*.parquet")); check("two files", len(files) == 2)
    when = dt.datetime(2026, 3, 1, 0, 0, 0, 1, tzinfo=dt.timezone.utc); price = decimal.Decimal("1.25"); obj = {"x": [1, "é"]}; clock = dt.time(1, 2, 3, 4)
    # DuckDB
    rows = duckdb.sql(f"select id, a, a__text, t, o, d, price from {how['DuckDB'][0]} order by id").fetchall()
    check("DuckDB union_by_name", rows[0][:3] == (1, 7, None) and rows[0][3] == when and rows[1][2] == "text" and json.loads(rows[1][4]) == obj and rows[1][5] == dt.date(2026, 3, 1) and rows[1][6] == price, rows)
    types = dict((r[0], r[1]) for r in duckdb.sql(f"describe select * from {how['DuckDB'][0]}").fetchall())
    check("DuckDB types", types == {"id": "BIGINT", "a": "BIGINT", "a__text": "VARCHAR", "t": "TIMESTAMP WITH TIME ZONE", "o": "VARCHAR", "d": "DATE", "price": "DECIMAL(38,2)", "c": "TIME"}, types)
    # polars
    t = python(how["polars"][0], files=files).sort("id")
    check("polars concat diagonal", t["a"].to_list() == [7, None] and t["a__text"].to_list() == [None, "text"] and t["t"].to_list()[0] == when and json.loads(t["o"].to_list()[1]) == obj and t["price"].to_list()[1] == price, t.schema)
    try:
        t = python(how["polars"][1], files=files[::-1]).collect()
        check("polars scan_parquet missing_columns", t.height == 2, t.columns)
    except Exception as e: check("polars scan_parquet missing_columns", False, str(e)[:200])
    # pyarrow
    t = python(how["pyarrow"][0], files=files, folder=folder).to_table().sort_by("id")
    check("pyarrow unify_schemas", t.column("a").to_pylist() == [7, None] and t.column("a__text").to_pylist() == [None, "text"] and t.column("t").to_pylist()[0] == when and json.loads(t.column("o").to_pylist()[1]) == obj, t.schema.types)
    # pandas, fastparquet
    t = python(how["pandas"][0], files=files).sort_values("id"); r = pa.Table.from_pandas(t, preserve_index=False).to_pylist()
    check("pandas concat", (r[0]["a"], r[1]["a"], r[0]["a__text"], r[1]["a__text"]) == (7, None, None, "text") and r[0]["t"] == when and json.loads(r[1]["o"]) == obj and (r[1]["d"], r[1]["price"], r[1]["c"]) == (dt.date(2026, 3, 1), price, clock), t.dtypes.to_dict())
    a, b = (python(how["fastparquet"][0], f=f).iloc[0] for f in files)
    check("fastparquet file by file", a["a"] == 7 and a["t"] == pd.Timestamp(when).tz_localize(None) and b["a__text"] == "text" and json.loads(b["o"]) == obj and b["d"] == pd.Timestamp("2026-03-01") and b["price"] == 1.25 and b["c"] == pd.Timedelta("01:02:03.000004"), b.to_dict())
    # Spark; a stream whose name begins with `_`, too
    if spark:
        t = python(how["Spark 4"][0].replace("output/", f"{work}/output/")).orderBy("id"); r = [row.asDict() for row in t.collect()]
        check("Spark mergeSchema", (r[0]["a"], r[1]["a"], r[0]["a__text"], r[1]["a__text"]) == (7, None, None, "text") and r[0]["t"].replace(tzinfo=dt.timezone.utc) == when and (r[1]["d"], r[1]["price"], r[1]["c"]) == (dt.date(2026, 3, 1), price, clock) and json.loads(t.selectExpr("get_json_object(o, '$.x')").collect()[1][0]) == obj["x"], t.dtypes)
        check("Spark sees the stream _a", [n for n in os.listdir(out) if n not in ("s", "_target", "views.sql") and spark.read.parquet(os.path.join(out, n)).count() == 1] == ["@5Fa"])
    partitions(work); os.chdir("/")
    try:
        import chdb
        file, setting = (part.replace("output/", f"{work}/output/") for part in how["ClickHouse"])
        got = chdb.query(f"select id, a, a__text, t, o, d, price from {file} order by id settings {setting}, input_format_parquet_allow_missing_columns=1", "JSONEachRow")
        rows = [json.loads(l) for l in str(got).splitlines()]
        check("ClickHouse schema_inference_mode union", len(rows) == 2 and int(rows[0]["a"]) == 7 and rows[1]["a__text"] == "text", rows)
    except ImportError: print("skip ClickHouse (chdb is not installed)")
    except Exception as e: check("ClickHouse schema_inference_mode union", False, str(e)[:300])
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0 or passed == 0)
