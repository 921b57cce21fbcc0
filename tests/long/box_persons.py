"""A million persons, some stored in several versions, some deleted or merged away: every living one once, in its newest version,
and what a page costs PostHog. From the stored versions in ranges of ids: as they lie while the newest have parts of their own,
and merged. Then from the table `persons`, as for a key that may not read the stored versions.

    python tests/long/box_persons.py [--persons 1000000]
"""
import argparse
import os
import pathlib
import statistics
import sys
import tempfile

import duckdb

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "second"))
from box import Box, Pipe, Report  # noqa: E402

# Of a person by its number: an id in no order, and about 400 bytes of properties, of which `age` tells the versions apart.
ID = "reinterpretAsUUID(concat(reinterpretAsFixedString(cityHash64(number, 1)), reinterpretAsFixedString(cityHash64(number, 2))))"
PROPERTIES = ("concat('{\"email\":\"person', toString(number), '@example.com\",\"plan\":\"pro\",\"age\":', toString(%s), ',\"vip\":', if(number %% 7 = 0, 'true', 'false'), "
              "',\"$initial_referrer\":\"https://example.com/', hex(sipHash128(number, 3)), '\",\"$initial_utm_campaign\":\"', hex(sipHash128(number, 4)), '\",\"bio\":\"', repeat('lorem ipsum ', 12), hex(sipHash128(number, 5)), '\"}')")


def insert(box, persons, version, deleted, age, where):
    box.sql(f"INSERT INTO person SELECT {ID}, toDateTime64('2024-01-01 00:00:00', 3, 'UTC') + toIntervalSecond(number), 1, {PROPERTIES % age}, number % 2, {deleted}, {version}, now(), number "
            f"FROM numbers({persons}) WHERE {where}")


def fill(box, persons):
    """One in ten has a second version, one in a hundred of those a third that is gone; a few are merged and deleted by the box itself."""
    insert(box, persons, 0, 0, "18 + number % 60", "1")
    box.sql("OPTIMIZE TABLE person FINAL")
    box.sql("SYSTEM STOP MERGES person")
    insert(box, persons, 1, 0, "100 + number % 60", "number % 10 = 9")
    insert(box, persons, 101, 1, "200", "number % 1000 = 999")
    # An older version that arrives last, and a tombstone of the same version as its person.
    insert(box, persons, 0, 0, "300", "number % 10 = 9 AND number % 50 = 19")
    insert(box, persons, 1, 1, "400", "number % 10000 = 1239")
    for number in range(5):
        box.ask("merge", {"from": f"user_{number}", "to": f"user_{number + 10}"})
        box.ask("person", {"distinct_id": f"user_{number + 20}", "delete": True})


class Living:
    """The persons that are not gone, each with the age of its newest version, against the files."""

    def __init__(self, box, folder):
        with tempfile.TemporaryDirectory() as scratch:
            path = os.path.join(scratch, "persons.parquet")
            box.sql("SELECT toString(id) AS id, JSONExtractInt(argMax(properties, (version, is_deleted)), 'age') AS age FROM person WHERE team_id = 1 GROUP BY id "
                    f"HAVING argMax(is_deleted, (version, is_deleted)) = 0 INTO OUTFILE '{path}' FORMAT Parquet")
            database = duckdb.connect()
            database.execute(f"CREATE TABLE living AS SELECT * FROM read_parquet('{path}')")
        files = sorted(str(path) for path in folder.rglob("*.parquet"))
        database.execute(f"CREATE TABLE files AS SELECT id, properties_age::BIGINT AS age FROM read_parquet({files!r}, union_by_name = true)")
        count = lambda sql: database.execute(f"SELECT count() FROM ({sql})").fetchone()[0]  # noqa: E731
        self.living, self.files = count("FROM living"), count("FROM files")
        self.lost, self.foreign = count("FROM living EXCEPT FROM files"), count("FROM files EXCEPT FROM living")
        self.repeated = count("SELECT id FROM files GROUP BY id HAVING count() > 1")

    def none(self):
        return self.living and not (self.lost or self.foreign or self.repeated)

    def __str__(self):
        return f"{self.living} living, {self.files} in files, {self.lost} lost or in an old version, {self.foreign} foreign, {self.repeated} repeated"


def stored(box):
    return int(box.sql("SELECT count() FROM person WHERE team_id = 1"))


def reading(report, box, pipe, name):
    """One run; gives its pages, and all bytes that were read for it."""
    parts = box.sql("SELECT count() FROM system.parts WHERE table = 'person' AND active").strip()
    print(f"{name}: {stored(box)} stored versions in {parts} parts", flush=True)
    run = pipe.run()
    ends_well = (run.tap_code, run.target_code) == (0, 0)
    report.check(f"{name}: ends well", ends_well, "" if ends_well else run.says())
    living = Living(box, pipe.folder / "out" / "persons")
    report.same(f"{name}: every living person once, in its newest version", living)
    queries = [query for query in box.queries() if not query.get("fault")]
    # Not the count that proves the walk: it reads the key of every row, and its bytes count below.
    pages = [query for query in queries if query["rows"] and "ORDER BY" in query["sql"]]
    body, read = sum(query["bytes"] for query in queries), sum(query["bytes_read"] for query in queries)
    middle = {what: statistics.median(query[what] for query in pages) for what in ("bytes_read", "rows_read", "seconds")}
    print(f"| {name} | {living.files} persons | {read / 1e6:.0f} MB read / {body / 1e6:.0f} MB of bodies = {read / body:.2f} | {len(pages)} pages, half of them below {middle['bytes_read'] / 1e6:.1f} MB and "
          f"{middle['rows_read']:.0f} rows read, {middle['seconds']:.2f} s | {run.seconds:.0f} s, {living.files / run.seconds:.0f} rows/s | {run.tap_mb} MB tap, {run.target_mb} MB target |", flush=True)
    report.check(f"{name}: the tap stays under 70 MB", run.tap_mb <= 70, f"{run.tap_mb} MB")
    report.check(f"{name}: the target stays under 80 MB", run.target_mb <= 80, f"{run.target_mb} MB")
    wrong = box.careless()
    report.check(f"{name}: careful queries", not wrong, wrong[:2])
    return pages, read, read / body


def pruned(report, box, pipe, name, most):
    """A run over the stored versions, which reads at most `most` times its bodies."""
    box.forget()
    pages, read, ratio = reading(report, box, pipe, name)
    ranges = all("FROM raw_persons" in page["sql"] for page in pages) and all("id >" in page["sql"] for page in pages[1:])
    report.check(f"{name}: stored versions in ranges of ids", ranges, pages[-1]["sql"][-120:])
    rows = max(page["rows_read"] for page in pages)
    report.check(f"{name}: no page reads more than a fifth of them", rows * 5 <= stored(box), f"{rows} rows")
    report.check(f"{name}: bytes read are at most {most} x bodies", ratio <= most, f"{ratio:.2f}")
    return read


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--persons", type=int, default=1_000_000)
    given = arguments.parse_args()
    report = Report("box_persons")
    with Box(5_000) as box, Pipe(box, data_type="persons") as pipe:
        fill(box, given.persons)
        pruned(report, box, pipe, "new versions apart", 4)
        box.sql("SYSTEM START MERGES person")
        box.sql("OPTIMIZE TABLE person FINAL")
        merged = pruned(report, box, pipe, "merged", 2.5)
        box.forget()
        box.fault("type_mismatch_400", body="FROM raw_persons")
        pages, read, _ = reading(report, box, pipe, "table persons")
        least = min(page["rows_read"] for page in pages)
        report.check("table persons: each page reads all persons", least >= stored(box), f"{least} rows")
        report.check("it costs more than the stored versions", read > 1.5 * merged, f"{read / merged:.2f} times as many bytes")
    report.end()


if __name__ == "__main__":
    main()
