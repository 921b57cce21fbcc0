"""posthog-box, the pipe `tap-posthog | target-parquet`, and what an independent reader makes of the files.

Every check of the second tier and of tests/long is written with these few things:
Box (a PostHog stand-in on a real ClickHouse, on loopback), Pipe (both binaries, a real pipe, states and files in one
folder), Truth and compare (the box's own rows against the files, by DuckDB), Report (counts and the closing line).
"""
import atexit
import contextlib
import datetime
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import duckdb

ROOT = pathlib.Path(__file__).resolve().parents[2]
BOX_FOLDER = pathlib.Path(os.environ.get("POSTHOG_BOX", ROOT / ".." / "shared" / "posthog-box")).resolve()
BOX_VENV = os.environ.get("BOX_VENV", os.path.join(tempfile.gettempdir(), "posthog-box-venv"))
TAP = os.environ.get("TAP_POSTHOG", str(ROOT / "target" / "release" / "tap-posthog"))
TARGET = os.environ.get("TARGET_PARQUET", str(ROOT / "target" / "release" / "target-parquet"))
KEY = "phx_box_full"
HANG_SECONDS = 900
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
DAY_US = 86_400_000_000
SINCE = "2026-06-01"  # before the box's data, but for a few events of 1970 and 2010
OPEN = ["--rate-limits", "off", "--concurrency", "0", "--budget-gb-per-hour", "0", "--gzip", "off"]
VERSION = "timestamp_us, event, distinct_id, uuid, created_us"
IDENTITY = "timestamp_us // 86400000000, event, distinct_id, uuid"
# The box with keys of few scopes beside its own: what its --key adds has every scope.
WITH_KEYS = """import json, sys
from posthog_box import server
keys, start = json.loads(sys.argv.pop(1)), server.App.__init__
def begin(app, options):
    start(app, options)
    app.keys.update({key: {"scopes": scopes, "teams": None} for key, scopes in keys.items()})
server.App.__init__ = begin
server.main()"""


STARTED = []


@atexit.register
def end_what_was_started():
    for process in STARTED:
        if process.poll() is None:
            process.kill()


def start(*arguments, **options):
    process = subprocess.Popen(*arguments, **options)
    STARTED.append(process)
    return process


def iso(when):
    """UTC text with six digits, from a datetime or from microseconds."""
    if isinstance(when, int):
        when = datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=when)
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def now_us():
    return time.time_ns() // 1000


class Box:
    """A box of one's own (or one that runs, by url). `keys` are the scopes of further keys."""

    def __init__(self, events=20_000, timezone="UTC", options=OPEN, url=None, keys=None, **more):
        self.folder = self.process = None
        if url:
            self.url = url.rstrip("/")
            return
        self.folder = tempfile.mkdtemp(prefix="box-")
        arguments = ["--port", "0", "--events", str(events), "--timezone", timezone, "--data", self.folder, *options]
        for name, value in more.items():
            arguments += ["--" + name.replace("_", "-"), str(value)]
        self.log = os.path.join(self.folder, "log")
        program = ["-c", WITH_KEYS, json.dumps(keys)] if keys else ["-m", "posthog_box"]
        command = [os.path.join(BOX_VENV, "bin", "python"), *program, *arguments]
        with open(self.log, "w") as log:
            self.process = start(command, cwd=BOX_FOLDER, stdout=log, stderr=subprocess.STDOUT,
                                            env={**os.environ, "PYTHONPATH": str(BOX_FOLDER), "PYTHONDONTWRITEBYTECODE": "1"})
        self.url = self.wait()

    def wait(self):
        end = time.monotonic() + HANG_SECONDS
        while time.monotonic() < end:
            text = pathlib.Path(self.log).read_text(errors="replace")
            found = re.search(r"posthog-box: (http://127\.0\.0\.1:\d+)", text)
            if found:
                return found.group(1)
            if self.process.poll() is not None:
                raise SystemExit(f"posthog-box did not start:\n{text}")
            time.sleep(0.1)
        raise SystemExit("posthog-box did not start in time")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process:
            self.process.kill()
            self.process.wait()
            shutil.rmtree(self.folder, ignore_errors=True)

    def ask(self, endpoint, body=None, method=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/__box/{endpoint}", data=data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=HANG_SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{endpoint}: {error.read().decode()[:500]}") from None

    def sql(self, text):
        return self.ask("sql", {"sql": text})["text"]

    def ingest(self, events, repeat=1):
        """Stores events. Without a created_at they arrived two seconds ago: before the horizon, which is a whole second."""
        arrived = iso(now_us() - 2_000_000)
        events = [{"created_at": arrived, **event} for event in events]
        return self.ask("ingest", {"events": events, "repeat": repeat})["uuids"]

    def fault(self, action, **when):
        self.ask("faults", {"action": action, **when})

    def forget(self):
        """No faults, no cache, no accounting of earlier runs."""
        self.ask("reset", {})

    def fired(self):
        return sum(rule["fired"] for rule in self.ask("faults")["rules"])

    def queries(self):
        return [q for q in self.ask("queries?last=20000")["queries"] if q["kind"] == "query"]

    def careless(self, faults=False):
        """What is wrong with the queries that came in since `forget`."""
        wrong = []
        for query in self.queries():
            sql = query.get("sql") or ""
            upper = sql.upper()
            if query.get("fault"):
                continue
            if query["status"] != 200 and not (faults and query["status"] in (-1, 504, 512, 513)):
                wrong.append(f"status {query['status']} {query.get('error', '')}: {sql[:300]}")
            if query.get("cached"):
                wrong.append(f"from cache: {sql[:300]}")
            if " OFFSET " in upper:
                wrong.append(f"OFFSET: {sql[:300]}")
            if " LIMIT " not in upper:
                wrong.append(f"no LIMIT: {sql[:300]}")
            if " FROM EVENTS" in upper and not re.search(r"timestamp >= .*timestamp < ", sql):
                wrong.append(f"no two-sided bounds: {sql[:300]}")
        return wrong


class Outcome:
    """How one run of the pipe ended."""

    def __init__(self, tap_code, target_code, states, tap_log, target_log, seconds, tap_mb, target_mb, cpu):
        self.tap_code, self.target_code, self.states = tap_code, target_code, states
        self.tap_log, self.target_log, self.seconds = tap_log, target_log, seconds
        self.tap_mb, self.target_mb, self.cpu = tap_mb, target_mb, cpu

    def rows(self):
        found = re.findall(r"events: (\d+) rows in", self.tap_log)
        return int(found[-1]) if found else None

    def proof(self):
        found = re.findall(r"proved (\d+) of (\d+) slices", self.tap_log)
        return tuple(map(int, found[-1])) if found else None

    def says(self):
        return f"tap {self.tap_code}, target {self.target_code}; tap said: {self.tap_log[-1500:]}; target said: {self.target_log[-800:]}"


class Watch:
    """Peak resident memory of a running process, as the kernel counts it (VmHWM), and its CPU time."""

    def __init__(self, process):
        self.peak_kb, self.cpu_seconds, self.path = 0, 0.0, f"/proc/{process.pid}/status"
        threading.Thread(target=self.watch, args=(process,), daemon=True).start()

    def watch(self, process):
        while process.returncode is None:
            with contextlib.suppress(OSError):
                found = re.search(r"VmHWM:\s+(\d+) kB", pathlib.Path(self.path).read_text())
                self.peak_kb = int(found.group(1)) if found else self.peak_kb
                fields = pathlib.Path(self.path.replace("status", "stat")).read_text().rsplit(")", 1)[1].split()
                self.cpu_seconds = max(self.cpu_seconds, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))
            time.sleep(0.02)

    def mb(self):
        return round(self.peak_kb / 1000, 1)


def exit_code(process):
    code = process.wait(HANG_SECONDS)
    return 128 - code if code < 0 else code


class Pipe:
    """Both binaries with their settings, state and files in a folder of their own."""

    def __init__(self, box, target_settings=None, **settings):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="pipe-"))
        self.config = {"api_key": KEY, "project_id": 1, "region": "self_hosted", "custom_base_url": box.url, "data_type": "events",
                       "initial_since": SINCE, "requests_per_minute": 100_000, "requests_per_hour": 1_000_000, **settings}
        self.target_config = {"destination_path": str(self.folder / "out"), **(target_settings or {})}
        self.state = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder, ignore_errors=True)

    def write(self, name, value):
        path = self.folder / name
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        path.chmod(0o600)
        return str(path)

    def tap_command(self, *arguments):
        command = [TAP, "--config", self.write("tap.json", {k: v for k, v in self.config.items() if v is not None})]
        if self.state is not None:
            command += ["--state", self.write("state.json", self.state)]
        return command + list(arguments)

    def tap(self, *arguments):
        """The tap alone, to its end: exit code, standard output, standard error."""
        done = subprocess.run(self.tap_command(*arguments), capture_output=True, text=True, timeout=HANG_SECONDS, cwd=self.folder)
        code = 128 - done.returncode if done.returncode < 0 else done.returncode
        return code, done.stdout, done.stderr

    def run(self, *arguments, keep_state=True, during=None):
        """Both, through a real pipe. `during(tap, target)` may end either. The last printed state is kept for the next run."""
        logs = [open(self.folder / name, "w+") for name in ("tap.log", "states", "target.log")]
        started = time.monotonic()
        tap = start(self.tap_command(*arguments), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=logs[0], cwd=self.folder)
        target = start([TARGET, "--config", self.write("target.json", self.target_config)], stdin=tap.stdout, stdout=logs[1], stderr=logs[2], cwd=self.folder)
        tap.stdout.close()
        watched = Watch(tap), Watch(target)
        try:
            if during:
                during(tap, target)
            codes = exit_code(tap), exit_code(target)
        finally:
            for process in (tap, target):
                if process.poll() is None:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
        seconds = time.monotonic() - started
        texts = []
        for log in logs:
            log.seek(0)
            texts.append(log.read())
            log.close()
        states = [line for line in texts[1].split("\n")[:-1] if line.startswith("{")]
        if states and keep_state:
            self.state = states[-1]
        return Outcome(*codes, states, texts[0], texts[2], seconds, watched[0].mb(), watched[1].mb(), [one.cpu_seconds for one in watched])

    def files(self):
        return sorted(str(path) for path in (self.folder / "out" / "events").rglob("*.parquet"))

    def select_delivered(self):
        """A SELECT over the files with the names that Truth uses."""
        files = self.files()
        if not files:
            return "SELECT 0::BIGINT AS timestamp_us, '' AS event, '' AS distinct_id, '' AS uuid, 0::BIGINT AS created_us WHERE false"
        return ("SELECT epoch_us(timestamp) AS timestamp_us, event, distinct_id, uuid::VARCHAR AS uuid, epoch_us(created_at) AS created_us "
                f"FROM read_parquet({files!r}, union_by_name = true)")


class Truth:
    """The versions that the box stores now, written by ClickHouse as Parquet for DuckDB to read."""

    def __init__(self, box, since=SINCE, where="1"):
        folder = tempfile.mkdtemp(prefix="truth-")
        path = os.path.join(folder, "rows.parquet")
        box.sql("SELECT toUnixTimestamp64Micro(timestamp) AS timestamp_us, event, distinct_id, toString(uuid) AS uuid, toUnixTimestamp64Micro(created_at) AS created_us "
                f"FROM events WHERE team_id = 1 AND timestamp >= toDateTime64('{since}', 6, 'UTC') AND ({where}) INTO OUTFILE '{path}' FORMAT Parquet")
        self.database = duckdb.connect()
        self.database.execute(f"CREATE TABLE stored AS SELECT DISTINCT {VERSION} FROM read_parquet('{path}')")
        self.rows = self.database.execute("SELECT count() FROM stored").fetchone()[0]
        shutil.rmtree(folder)


class Difference:
    """Lost, foreign and repeated versions; identities that are not the same set."""

    def __init__(self, truth, select_delivered):
        database = truth.database
        database.execute(f"CREATE OR REPLACE TABLE files AS {select_delivered}")
        count = lambda sql: database.execute(f"SELECT count() FROM ({sql})").fetchone()[0]  # noqa: E731
        self.stored, self.files = truth.rows, count("FROM files")
        self.lost = count(f"SELECT {VERSION} FROM stored EXCEPT SELECT {VERSION} FROM files")
        self.foreign = count(f"SELECT {VERSION} FROM files EXCEPT SELECT {VERSION} FROM stored")
        self.repeated = count(f"SELECT {VERSION}, count() FROM files GROUP BY ALL HAVING count() > 1")
        self.identities = count(f"(SELECT {IDENTITY} FROM stored EXCEPT SELECT {IDENTITY} FROM files) UNION ALL (SELECT {IDENTITY} FROM files EXCEPT SELECT {IDENTITY} FROM stored)")
        self.examples = database.execute(f"(SELECT 'lost' AS what, * FROM (SELECT {VERSION} FROM stored EXCEPT SELECT {VERSION} FROM files) LIMIT 3) UNION ALL "
                                         f"(SELECT 'foreign', * FROM (SELECT {VERSION} FROM files EXCEPT SELECT {VERSION} FROM stored) LIMIT 3)").fetchall()

    def none(self):
        return not (self.lost or self.foreign or self.repeated or self.identities)

    def __str__(self):
        text = f"{self.stored} stored, {self.files} in files, {self.lost} lost, {self.foreign} foreign, {self.repeated} repeated"
        return text if self.none() else f"{text}, {self.identities} identities differ, {self.examples}"


def compare(box, pipe, where="1"):
    """What the box stores from the pipe's `initial_since` on, against the files."""
    since = re.sub("[TZ]", " ", pipe.config["initial_since"]).strip()
    return Difference(Truth(box, since, where), pipe.select_delivered())


class Report:
    """Counts what holds and what does not."""

    def __init__(self, name):
        self.name, self.passed, self.failed, self.started = name, 0, 0, time.monotonic()

    def check(self, what, holds, detail=""):
        if holds:
            self.passed += 1
            short = str(detail).replace("\n", " ")[:160]
            print(f"ok    {what}" + (f"  ({short})" if short and short != "[]" else ""), flush=True)
        else:
            self.failed += 1
            print(f"FAIL  {what}: {detail}", flush=True)
        return bool(holds)

    def same(self, what, difference):
        return self.check(what, difference.none(), str(difference))

    def end(self):
        print(f"{self.name}: {time.monotonic() - self.started:.0f} s", flush=True)
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        sys.exit(1 if self.failed else 0)
