"""Meltano with databases: our tap into target-duckdb and target-postgres, and tap-postgres into our target, each row once.

    python tests/long/meltano_databases.py

Needs PostgreSQL as Debian installs it (apt-get install postgresql): a server of its own is made in a fresh folder. Meltano is in the
environment that tests/second/run.sh makes beside this one.
"""
import contextlib
import glob
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "second"))
import duckdb  # noqa: E402

from box import Box, DAY_US, Difference, Report, Truth, iso, now_us  # noqa: E402
from box_meltano import SINCE, Project  # noqa: E402
from python_wheel import build  # noqa: E402

STORED = ("SELECT epoch_us(timestamp::TIMESTAMPTZ) AS timestamp_us, event, distinct_id, uuid::VARCHAR AS uuid, epoch_us(created_at::TIMESTAMPTZ) AS created_us FROM ")


@contextlib.contextmanager
def postgres():
    """A PostgreSQL server; its port. It refuses root, so that it runs as the user that Debian makes for it."""
    programs = pathlib.Path(sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1])
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        shutil.chown(folder, "postgres")
        ask = lambda *command: subprocess.run(["runuser", "-u", "postgres", "--", *map(str, command)], check=True, capture_output=True)  # noqa: E731
        ask(programs / "initdb", "-D", f"{folder}/data", "-A", "trust", "-E", "UTF8", "--no-sync")
        ask(programs / "pg_ctl", "-D", f"{folder}/data", "-w", "-l", f"{folder}/log", "-o", f"-p {port} -k {folder} -c listen_addresses=127.0.0.1", "start")
        try:
            yield port
        finally:
            ask(programs / "pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "stop")


def query(port, sql):
    return subprocess.run(["psql", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "-qAt", "-c", sql], check=True, capture_output=True, text=True).stdout


def into_duckdb(report, project, box):
    path = project.folder / "warehouse.duckdb"
    project.add("loaders", name="target-duckdb", namespace="target_duckdb", pip_url="target-duckdb==0.8.0", config={"path": str(path), "default_target_schema": "posthog"})
    ran = project.run("meltano install loader target-duckdb && meltano run tap-posthog target-duckdb")
    if report.check("our tap into target-duckdb", ran.returncode == 0, ran.stdout[-2500:]):
        truth = Truth(box, SINCE)
        truth.database.execute(f"ATTACH '{path}' AS warehouse (READ_ONLY)")
        report.same("target-duckdb: each row once", Difference(truth, STORED + "warehouse.posthog.events"))


def into_postgres(report, project, box, port):
    project.add("loaders", name="target-postgres", namespace="target_postgres", pip_url="meltanolabs-target-postgres==0.8.1",
                config={"host": "127.0.0.1", "port": port, "user": "postgres", "password": "none", "database": "postgres", "default_target_schema": "posthog"})
    ran = project.run("meltano install loader target-postgres && meltano run tap-posthog target-postgres")
    report.check("our tap into target-postgres", ran.returncode == 0, ran.stdout[-2500:])
    box.ingest([{"event": "new", "distinct_id": f"d{n}", "timestamp": iso(now_us() - n * DAY_US // 2)} for n in range(7)])
    ran = project.run("meltano run tap-posthog target-postgres")
    report.check("what is new, into target-postgres", ran.returncode == 0 and "events: 7 rows" in ran.stdout, ran.stdout[-2500:])
    rows = project.folder / "rows.csv"
    rows.write_text(query(port, "COPY (SELECT timestamp, event, distinct_id, uuid, created_at FROM posthog.events) TO STDOUT (FORMAT csv, HEADER)"))
    # It keeps one row a key, the newest version: versions of an event that share a key are one there.
    truth = Truth(box, SINCE)
    truth.database.execute("CREATE OR REPLACE TABLE stored AS FROM stored QUALIFY row_number() OVER (PARTITION BY uuid, event, distinct_id ORDER BY created_us DESC) = 1")
    truth.rows = truth.database.execute("SELECT count() FROM stored").fetchone()[0]
    report.same("target-postgres: each key once", Difference(truth, STORED + f"read_csv('{rows}', header = true)"))


def out_of_postgres(report, project, port):
    project.add("extractors", name="tap-postgres", namespace="tap_postgres", pip_url="meltanolabs-tap-postgres==0.10.0", capabilities=["catalog", "discover", "state"],
                config={"host": "127.0.0.1", "port": port, "user": "postgres", "password": "none", "database": "postgres", "filter_schemas": ["shop"]},
                select=["shop-orders.*"], metadata={"shop-orders": {"replication-method": "INCREMENTAL", "replication-key": "changed"}})
    query(port, "CREATE SCHEMA shop; CREATE TABLE shop.orders (id int PRIMARY KEY, price numeric(12, 2), note text, changed timestamptz NOT NULL); "
          "INSERT INTO shop.orders SELECT n, n / 7.0, CASE WHEN n % 3 = 0 THEN NULL ELSE 'näh ' || n END, '2026-01-01Z'::timestamptz + n * interval '1 minute' FROM generate_series(1, 1000) n")
    ran = project.run("meltano install extractor tap-postgres && meltano run tap-postgres target-parquet")
    report.check("tap-postgres into our target", ran.returncode == 0, ran.stdout[-2500:])
    query(port, "INSERT INTO shop.orders VALUES (1001, 0.1, 'new', '2026-02-01Z')")
    ran = project.run("meltano run tap-postgres target-parquet")
    files = project.files("shop-orders") or project.files("orders")
    found = duckdb.sql(f"SELECT count(DISTINCT id), count(note), round(sum(price), 2)::VARCHAR FROM (SELECT DISTINCT id, note, price FROM read_parquet({files!r}, union_by_name = true))").fetchall()[0]
    wanted = query(port, "SELECT count(*), count(note), sum(price) FROM shop.orders").strip().split("|")
    report.check("tap-postgres twice: the rows of the table", ran.returncode == 0 and (found[0], found[1]) == (int(wanted[0]), int(wanted[1])) and abs(float(found[2]) - float(wanted[2])) < 0.005, f"{found} {wanted}")


def main():
    report = Report("meltano_databases")
    with Box(events=2000) as box, postgres() as port, tempfile.TemporaryDirectory() as wheels, tempfile.TemporaryDirectory() as folder:
        build(wheels, "--compatibility", "linux")
        project = Project(folder, wheels, box)
        first = project.lines_of_the_guide()
        report.check("the guide", first.returncode == 0, first.stdout[-2000:])
        into_duckdb(report, project, box)
        into_postgres(report, project, box, port)
        out_of_postgres(report, project, port)
    report.end()


if __name__ == "__main__":
    os.umask(0o022)
    main()
