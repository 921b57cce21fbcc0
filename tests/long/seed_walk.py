"""What seed_claims is written with: the pipe of tests/second/box.py that shows its commands and lets nothing pass unseen, a
server to stand before the box, and a report in rows.
"""
import atexit
import contextlib
import http.client
import http.server
import json
import os
import pathlib
import re
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import uuid

import duckdb
import pyarrow.parquet

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "second"))
from box import DAY_US, HANG_SECONDS, KEY, TARGET, Pipe, Report, iso, now_us  # noqa: E402

PAGES = "cityHash64.distinct_id., timestamp, uuid"  # in the ORDER BY of page queries only
MINUTE, HOUR = 60_000_000, 3_600_000_000
ROWS = {}  # number: (claim, function)
KEYS = {KEY: "phx_...", "phx_box_query_only": "phx_query_only...", "phx_box_no_query": "phx_no_query...", "phx_box_other_project": "phx_other_project..."}
COMMON = ("api_key", "project_id", "region", "custom_base_url", "requests_per_minute", "requests_per_hour")


def row(number, claim):
    def keep(function):
        ROWS[number] = (claim, function)
        return function
    return keep


def events(name, times, arrived=None, **more):
    """Events of these own times; they arrived when they happened, or at `arrived`."""
    return [{"event": name, "timestamp": iso(at), "created_at": iso(arrived or at), "distinct_id": f"u{n % 7}", "properties": {"n": n}, **more} for n, at in enumerate(times)]


def good(walk, what, run, rows):
    return walk.check(f"{what}: {rows} events", (run.tap_code, run.target_code, run.rows()) == (0, 0, rows), f"{run.rows()} rows" if run.tap_code == 0 else run.says())


class Walk(Report):
    """Prints one block a row, and looks for the key in everything that the programs say."""

    def __init__(self, name):
        super().__init__(name)
        self.names, self.heard_bytes, self.heard_texts, self.leaks, self.differences, self.now, self.shown, self.others = {}, 0, 0, [], 0, 0, "", None

    def row(self, number, claim):
        self.now, self.shown = number, ""
        print(f"\nrow {number}: {claim}", flush=True)

    def check(self, what, holds, detail=""):
        self.passed, self.failed = self.passed + bool(holds), self.failed + (not holds)
        text = self.plain(detail).replace("\n", " ")
        text = text[:300] if holds else text[:3000]
        print(f"    {'ok    ' if holds else 'FAILED'}  {what}" + (f"  ({text})" if text not in ("", "[]", "None") else ""), flush=True)
        return bool(holds)

    def differs(self, text):
        """Where the program does otherwise than the row's words, and says so."""
        self.differences += 1
        print(f"    differs {text}", flush=True)

    def note(self, text):
        print(f"    note    {self.plain(text)}", flush=True)

    def not_shown(self, text):
        print(f"    --      not shown here: {text}", flush=True)

    def plain(self, text):
        """A text with names in place of addresses and keys."""
        text = str(text)
        for address, name in sorted(self.names.items(), key=lambda pair: -len(pair[0])):
            text = text.replace(address, name)
        for key, name in KEYS.items():
            text = text.replace(key, name)
        return text

    def command(self, command, settings=None):
        """Shows a command; settings first, where they are others than those last shown."""
        told = json.dumps({name: value for name, value in (settings or {}).items() if value is not None}, ensure_ascii=False)
        if settings and told != self.shown:
            self.shown = told
            print(f"    posthog.json: {self.plain(told)[:400]}", flush=True)
        print(f"    $ {self.plain(command)}", flush=True)

    def outcome(self, text):
        print(f"      -> {self.plain(text)}", flush=True)

    def hear(self, what, *texts):
        """Looks for the key in what a program said."""
        for text in texts:
            text = text if isinstance(text, bytes) else text.encode(errors="surrogatepass")
            self.heard_bytes, self.heard_texts = self.heard_bytes + len(text), self.heard_texts + 1
            self.leaks += [f"row {self.now}, {what}" for key in KEYS if key.encode() in text]

    def hear_others(self):
        """What another process heard is heard here."""
        if self.others:
            self.heard_bytes, self.heard_texts, self.leaks = (mine + theirs for mine, theirs in zip((self.heard_bytes, self.heard_texts, self.leaks), self.others.figures()[3:]))

    def end(self):
        print(f"\n{self.differences} places where the program does otherwise than the words of its row", flush=True)
        super().end()


class Others:
    """Rows that mostly wait, walked by a process of their own at the same time; their blocks are printed in order."""

    def __init__(self, script, rows):
        self.rows, self.out = rows, tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen([sys.executable, script, "--rows", *map(str, rows), "--events", "1000", "--figures"], stdout=self.out, stderr=subprocess.STDOUT)
        atexit.register(self.end)

    def end(self):
        """In peace, so that it ends its box."""
        self.process.terminate()
        self.process.wait(HANG_SECONDS)

    def text(self):
        self.process.wait(HANG_SECONDS)
        self.out.seek(0)
        return self.out.read()

    def figures(self):
        """passed, failed, differences, bytes, texts, leaks."""
        return json.loads(self.text().strip().splitlines()[-1])

    def block(self, number):
        found = re.search(rf"^row {number}: .*?(?=^row |^figures|\Z)", self.text(), re.S | re.M)
        return found.group(0).rstrip() if found else f"row {number} was not walked: {self.text()[-2000:]}"


def last(text, count=1):
    """The last lines of a log, without their times."""
    lines = [re.sub(r"^\S+Z (INFO )?", "", line) for line in text.strip().splitlines() if "METRIC" not in line]
    return " / ".join(lines[-count:])


def records(text, stream=None):
    # Not splitlines: that also ends lines at characters which stand in names.
    found = (json.loads(line) for line in text.split("\n") if line.startswith('{"type":"RECORD"'))
    return [message["record"] for message in found if stream in (None, message["stream"])]


def schema(text):
    return next(json.loads(line) for line in text.split("\n") if line.startswith('{"type":"SCHEMA"'))


def says(text, part):
    """The line that says so, or nothing."""
    return next((last(line) for line in text.splitlines() if part in line), "")


class Walked(Pipe):
    """The pipe of a row."""

    def __init__(self, walk, box, target_settings=None, **settings):
        if "event_types" in settings:  # a row's own events: the box need not look at its months of others
            settings = {"initial_since": iso(now_us() - 3 * DAY_US), **settings}
        super().__init__(box, target_settings, **settings)
        self.walk, self.box = walk, box
        walk.names[str(self.folder)] = "$DIR"

    def show(self, command, given=None):
        settings = {name: value for name, value in self.config.items() if name not in COMMON or name in (given or ()) or value != self.usual(name)}
        self.walk.command(command, settings)

    def usual(self, name):
        return {"api_key": KEY, "project_id": 1, "region": "self_hosted", "custom_base_url": self.box.url, "requests_per_minute": 100_000, "requests_per_hour": 1_000_000}[name]

    def words(self, arguments):
        words = ["tap-posthog", "--config", "posthog.json"] + (["--state", "state.json"] if self.state is not None else [])
        return " ".join(words + [os.path.basename(str(word)) for word in arguments])

    def tap(self, *arguments, env=None, stderr=None):
        """The tap alone: exit code, standard output, standard error, seconds."""
        self.show(" ".join([*(f"{name}={value}" for name, value in (env or {}).items()), self.words(arguments)]))
        started = time.monotonic()
        done = subprocess.run(self.tap_command(*map(str, arguments)), capture_output=True, text=True, timeout=HANG_SECONDS, cwd=self.folder, env={**os.environ, **(env or {})})
        code = 128 - done.returncode if done.returncode < 0 else done.returncode
        self.walk.hear("tap", done.stdout, done.stderr)
        seconds = time.monotonic() - started
        said = f"; {last(done.stderr)[:220]}" if done.stderr else ""
        self.walk.outcome(f"exit {code}, {done.stdout.count(chr(10))} lines, {seconds:.1f} s{said}")
        return code, done.stdout, done.stderr, seconds

    def run(self, *arguments, **more):
        self.show(f"{self.words(arguments)} | target-parquet --config parquet.json")
        run = super().run(*arguments, **more)
        self.walk.hear("tap", run.tap_log)
        self.walk.hear("target", run.target_log, *run.states)
        self.walk.hear("commit log", *(path.read_bytes() for path in (self.folder / "out" / "_target").rglob("*") if path.is_file()))
        text = f"exit {run.tap_code} | {run.target_code}, {run.seconds:.1f} s, {run.tap_mb} | {run.target_mb} MB"
        self.walk.outcome(f"{text}; {last(run.tap_log)[:220]}")
        return run

    def target(self, *arguments):
        """The target's other commands, as `state`."""
        self.walk.command(f"target-parquet {' '.join(arguments)} --config parquet.json")
        done = subprocess.run([TARGET, *arguments, "--config", self.write("target.json", self.target_config)], capture_output=True, text=True, timeout=HANG_SECONDS)
        self.walk.hear("target", done.stdout, done.stderr)
        return done

    def catalog(self, stream, change=lambda stream: None):
        """The discovered catalog with one stream selected and changed, for --catalog."""
        kept = self.config.pop("data_type", None)
        code, out, _, _ = self.tap("--discover")
        self.config["data_type"] = kept
        found = json.loads(out)
        for entry in found["streams"]:
            chosen = entry["tap_stream_id"] == stream
            next(part for part in entry["metadata"] if not part["breadcrumb"])["metadata"]["selected"] = chosen
            if chosen:
                change(entry)
        self.config["data_type"] = None
        return self.write("catalog.json", found)

    def rows_of(self, stream, columns="*"):
        """The files of a stream as DuckDB reads them."""
        files = sorted(map(str, (self.folder / "out" / stream).rglob("*.parquet")))
        cursor = duckdb.execute(f"SELECT {columns} FROM read_parquet(?, union_by_name = true)", [files])
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row)) for row in cursor.fetchall()]


    def arrow_rows(self, *paths):
        """The rows of `events` as pyarrow reads them: names are exact there."""
        return [row for path in paths or self.files() for row in pyarrow.parquet.read_table(path, partitioning=None).to_pylist()]


def name_box(walk, box):
    """`$BOX` for its address, also with another scheme."""
    walk.names.update({box.url: "$BOX", box.url.split("//")[1]: "$BOX_HOST", str(box.folder): "$DATA"})


class Gate:
    """A server of our own. It notes what is asked, and passes it on to the box below `prefix`.

    `answer(handler, path)` may answer itself, and then says True. `change(path, body)` gives another body. Without a box it
    answers 418 to all.
    """

    def __init__(self, walk, name, box=None, prefix="", answer=None, change=None, tls=None, ask=None):
        self.seen, gate = [], self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def reply(self, status, body, headers=()):
                self.send_response(status)
                for header, value in {"Content-Type": "application/json", **dict(headers)}.items():
                    self.send_header(header, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                return True

            def serve(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                gate.seen.append((self.command, self.path, {header.lower(): value for header, value in self.headers.items()}))
                path = urllib.parse.urlsplit(self.path)  # a proxy is asked with the whole address
                path = path.path + (f"?{path.query}" if path.query else "")
                if answer and answer(self, path):
                    return
                if box is None or self.command == "CONNECT" or not path.startswith(prefix + "/api/"):
                    self.reply(418 if self.command != "CONNECT" else 403, b'{"detail": "not here"}')
                    return
                path = path[len(prefix):]
                path = ask(path) if ask else path
                connection = http.client.HTTPConnection(urllib.parse.urlsplit(box.url).netloc, timeout=HANG_SECONDS)
                headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "accept-encoding", "connection")}
                connection.request(self.command, path, body or None, headers)
                got = connection.getresponse()
                content = got.read()
                connection.close()
                content = change(path, content) if change and got.status == 200 else content
                kept = {name: value for name, value in got.getheaders() if name.lower() in ("content-type", "retry-after")}
                with contextlib.suppress(OSError):
                    self.reply(got.status, content, kept)

            do_GET = do_POST = do_CONNECT = serve

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.host = f"127.0.0.1:{self.server.server_address[1]}"
        self.url = f"{'https' if tls else 'http'}://{self.host}{prefix}"
        walk.names[self.host] = name
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


def half(path):
    """The server gives at most 50 of the 100 that are asked for."""
    return path.replace("limit=100", "limit=50")


def changed(kind, number, **members):
    """A Gate's change: one item of a list is another."""
    def change(path, body):
        if f"/{kind}/" not in path:
            return body
        page = json.loads(body)
        for item in page["results"]:
            item.update(members if item["id"] == number else {})
        return json.dumps(page).encode()
    return change


def session_of(at_us):
    """A uuid of version 7, as PostHog's session ids are."""
    return str(uuid.UUID(int=(at_us // 1_000) << 80 | 7 << 76 | 2 << 62 | at_us % 999_983))


def refused_at(box):
    """How long it took from each refused request to the next one."""
    asked = sorted((query["at"], query["status"]) for query in box.ask("queries?last=1000")["queries"])
    return [round(after[0] - before[0], 1) for before, after in zip(asked, asked[1:]) if before[1] in (429, 500, 503)]


def certificate(folder):
    """A server's certificate, made as the README says."""
    key, pem = os.path.join(folder, "key.pem"), os.path.join(folder, "cert.pem")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=box", "-keyout", key, "-out", pem,
                    "-addext", "basicConstraints=critical,CA:FALSE", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)
    return context, pem
