"""Rows 13 to 26 of seed_claims: other streams, limits, networks, discovery, doctor, files, memory, secrets, progress."""
import contextlib
import datetime
import email.utils
import json
import os
import pty
import re
import socket
import subprocess
import tempfile
import time

from seed_walk import HOUR, MINUTE, PAGES, Gate, Walked, certificate, changed, events, good, half, last, name_box, records, refused_at, row, says, session_of
from box import HANG_SECONDS, KEY, SINCE, TAP, TARGET, Box, compare, iso, now_us, start  # noqa: I001, found by seed_walk


@row(13, "cohorts (driver lacks it)")
def cohorts(walk, box):
    with Gate(walk, "$GATE", box, ask=half, change=changed("cohorts", 7, deleted=True, is_calculating=True, filters={"huge": "x" * 2_000_000})) as gate, Walked(walk, box, data_type="cohorts", custom_base_url=gate.url) as pipe:
        code, out, _, _ = pipe.tap()
        came, asked = records(out), [path.split("?")[1] for _, path, _ in gate.seen if "/cohorts/" in path]
        walk.check("REST /cohorts/, all pages", code == 0 and [cohort["id"] for cohort in came] == list(range(1, 138)), f"{len(came)} cohorts in {len(asked)} pages: {' '.join(asked)}")
        walk.check("static, deleted, calculating, a filter of 2 MB", sum(cohort["is_static"] for cohort in came) == 27 and (came[6]["deleted"], came[6]["is_calculating"], len(came[6]["filters"]["huge"])) == (True, True, 2_000_000), f"{sum(cohort['is_static'] for cohort in came)} static")
        as_text = pipe.catalog("cohorts", lambda stream: stream["schema"]["properties"].update(id={"type": "string"}))
        out = pipe.tap("--catalog", as_text)[1]
        walk.check("id as string, where the catalog says string", [cohort["id"] for cohort in records(out)] == [str(n) for n in range(1, 138)], records(out)[6]["id"])
    with Gate(walk, "$ELSEWHERE") as elsewhere:
        def away(_, body):
            return re.sub(rb'"next": "http://[^/"]+', f'"next": "{elsewhere.url}'.encode(), body)
        with Gate(walk, "$GATE", box, change=away) as gate, Walked(walk, box, data_type="cohorts", custom_base_url=gate.url) as pipe:
            code, out, _, _ = pipe.tap()
            walk.check("a `next` on another host: read on our own, nothing sent there", (code, len(records(out)), len(elsewhere.seen)) == (0, 137, 0), f"{len(records(out))} cohorts, {len(elsewhere.seen)} requests at the other host")
    with Gate(walk, "$GATE", box, change=lambda _, body: re.sub(rb'"next": [^,]+', b'"next": "/x?limit=100"', body)) as gate, Walked(walk, box, data_type="cohorts", custom_base_url=gate.url) as pipe:
        code, _, err, _ = pipe.tap()
        walk.check("a `next` that leads in a circle ends with an error", code == 4 and "circle" in err)
    walk.differs("id is a number, as PostHog gives it, unless the catalog says string")


@row(14, "feature_flags (driver lacks it)")
def feature_flags(walk, box):
    odd = changed("feature_flags", 7, deleted=True, is_remote_configuration=True, has_encrypted_payloads=True, filters={"payloads": {"true": "********* (encrypted)"}})
    with Gate(walk, "$GATE", box, ask=half, change=odd) as gate, Walked(walk, box, data_type="feature_flags", custom_base_url=gate.url) as pipe:
        run = pipe.run()
        flags = {flag["id"]: flag for flag in pipe.rows_of("feature_flags")}
        fields = ["key", "name", "active", "created_at", "filters", "updated_at", "deleted"]
        walk.check("REST /feature_flags/, all pages, with their fields", run.tap_code == 0 and len(flags) == 230 and set(fields) <= set(flags[7]), f"{len(flags)} flags in {sum('/feature_flags/' in path for _, path, _ in gate.seen)} pages; " + ", ".join(f"{name} {str(flags[8][name])[:40]}" for name in fields))
        walk.check("a remote configuration with an encrypted payload, deleted", flags[7]["deleted"] and json.loads(flags[7]["filters"])["payloads"]["true"].startswith("***"))
        box.ask("rest_edit", {"kind": "feature_flags", "id": 9})
        run = pipe.run()
        newest = [flag for flag in pipe.rows_of("feature_flags") if flag["id"] == 9]
        walk.check("run 2 brings the edited flag", "feature_flags" in run.tap_log and any("edited" in flag["name"] for flag in newest), f"{last(run.tap_log)}; {len(newest)} versions of flag 9")

    def crowd(handler, path):
        if "/feature_flags/" not in path:
            return False
        query = dict(pair.split("=") for pair in path.split("?")[1].split("&"))
        first, size = int(query.get("offset", 0)), int(query["limit"])
        flags = [{"id": n, "key": f"flag-{n}", "name": "", "filters": {}, "deleted": False, "active": True, "created_at": "2024-01-01T00:00:00Z", "updated_at": "2024-01-01T00:00:00Z"} for n in range(first + 1, min(first + size, 10_000) + 1)]
        next_page = f"http://x/?limit={size}&offset={first + size}" if first + size < 10_000 else None
        return handler.reply(200, json.dumps({"count": 10_000, "next": next_page, "previous": None, "results": flags}).encode())
    with Gate(walk, "$GATE", box, answer=crowd) as gate, Walked(walk, box, data_type="feature_flags", custom_base_url=gate.url) as pipe:
        run = pipe.run()
        distinct = pipe.rows_of("feature_flags", "count(DISTINCT id) AS ids, count() AS rows")[0]
        walk.check("10,000 flags", (run.tap_code, *distinct.values()) == (0, 10_000, 10_000), f"{distinct}, {len(gate.seen)} requests in {run.seconds:.1f} s; {run.tap_mb} MB tap")


@row(15, "(driver) sessions, person_distinct_ids")
def sessions(walk, box):
    began = now_us() - 2 * HOUR
    ours = session_of(began)
    box.ingest(events("visit", [began, began + MINUTE], properties={"$session_id": ours}))
    with Walked(walk, box, data_type="sessions", initial_since=iso(began - HOUR)) as pipe:
        run = pipe.run()
        first = [each for each in pipe.rows_of("sessions") if each["session_id"] == ours]
        walk.check("run 1", run.tap_code == 0 and len(first) == 1 and first[0]["$session_duration"] == 60, f"{len(first)} record, duration {first[0]['$session_duration']} s")
        live = list(first[0])
        walk.check("columns are those that the server has", "$start_timestamp" in live and "$channel_type" not in live, f"{' '.join(live)}; {says(run.tap_log, 'has no ')[:90]}...")
        box.ingest(events("visit", [began + 90 * MINUTE], properties={"$session_id": ours}))
        pipe.run()
        each = [each["$session_duration"] for each in pipe.rows_of("sessions") if each["session_id"] == ours]
        walk.check("a session that went on after the bookmark comes again, longer", sorted(each) == [60, 5_400], f"durations {each} s: the newest record of a key counts")
    with Walked(walk, box, data_type="person_distinct_ids") as pipe:
        run = pipe.run()
        stored = int(box.sql("SELECT uniqExact(distinct_id) FROM person_distinct_id2 WHERE team_id = 1"))
        walk.check("person_distinct_ids", len(pipe.rows_of("person_distinct_ids")) == stored, f"{stored} stored; columns {' '.join(pipe.rows_of('person_distinct_ids')[0])}")
    walk.note("the box makes its sessions of events and has few of their columns")


@row(16, "429 handling with exponential backoff")
def refusals(walk, box):
    box.ingest(events("wait", [now_us() - HOUR - n for n in range(300)], distinct_id="one"))  # one slice: no two requests at a time

    def tell(seconds):
        return email.utils.format_datetime(datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds), usegmt=True)
    cases = {"Retry-After: 5": ("throttle_429", {"retry_after": 5}, 4.9, 12), "Retry-After as an HTTP date 8 s ahead": ("throttle_429", {"retry_after": None}, 5, 15), "no header, the text says 1 second": ("throttle_429", {"no_header": True}, 0.9, 12),
             "Retry-After: 0": ("throttle_429", {"retry_after": 0}, 0.9, 8), "503 with Retry-After: 5": ("unavailable_503", {"retry_after": 5}, 4.9, 12), "too many at once (429 without a header)": ("concurrency_429", {}, 1.9, 15)}
    for name, (action, extra, least, most) in cases.items():
        with Walked(walk, box, event_types=["wait"], page_size=100) as pipe:
            box.forget()
            extra = {"retry_after": tell(8)} if extra == {"retry_after": None} else extra
            box.fault(action, next=1, skip=1, body=PAGES, **extra)
            run = pipe.run()
            waits = refused_at(box)
            announced = says(run.tap_log, "waiting ")
            good(walk, f"{name}, on the second page", run, 300)
            walk.check(f"{name}: asked again after {least} to {most} s", len(waits) == 1 and least <= waits[0] <= most, f"{waits} s")
            if least >= 4:
                walk.check(f"{name}: announced", announced, announced)
    with Walked(walk, box, event_types=["wait"], page_size=100) as pipe:
        box.forget()
        box.fault("throttle_429", next=1, skip=1, body=PAGES, retry_after=10**9)
        run = pipe.run()
        walk.check("Retry-After: 1000000000: exit 75 at once, with a state", run.tap_code == 75 and run.states and run.seconds < 30, f"state: {run.states[-1:]}")
        box.forget()
        again = pipe.run()
        walk.check("the next run goes on, nothing lost or repeated", again.tap_code == 0 and compare(box, pipe, "event = 'wait'").none(), compare(box, pipe, "event = 'wait'"))
    with Walked(walk, box, event_types=["wait"], page_size=100) as pipe:
        box.forget()
        box.fault("server_500", next=2, skip=1, body=PAGES)
        good(walk, "two 500s", pipe.run(), 300)
        waits = refused_at(box)
        walk.check("waits are drawn from 1 to 3 and from 1 to 9 s", len(waits) == 2 and 0.9 <= waits[0] <= 5 and 0.9 <= waits[1] <= 11, f"{waits} s")
    walk.note("the line every 10 s while it waits: row 26")


@row(17, "2,400/h budget")
def budget(walk, box):
    at = now_us() - HOUR
    box.ingest([{**event, "distinct_id": f"id {n}"} for n, event in enumerate(events("paced", [at - n for n in range(300)]))])
    for name, per_hour, runs in (("paced", 60, 3),):
        with Walked(walk, box, event_types=[name], page_size=10, requests_per_hour=per_hour) as pipe:
            started, codes, counts = time.time(), [], []
            for _ in range(runs):
                box.forget()
                run = pipe.run("--max-runtime", "3")
                codes.append(run.tap_code)
                counts.append(len(box.queries()))
            walk.check(f"{runs} runs, {per_hour} an hour, slices of one page: never above it", codes == [75] * runs and sum(counts) <= per_hour, f"{counts} = {sum(counts)} queries in {time.time() - started:.0f} s, {len(pipe.arrow_rows())} rows in files")
            told = json.loads(pipe.state or "{}").get("requests")
            walk.check("the state carries the count, and the wait is announced", told and "requests an hour" in run.tap_log, f"requests in the state: {told}; {says(run.tap_log, 'requests an hour')}")
    walk.differs("what a run asks behind its last STATE is not counted by the next one; a slice is proved every 50 pages, and one that ends before has no STATE to say it in")
    with Walked(walk, box, event_types=["paced"]) as pipe:
        pipe.config.update(requests_per_hour=None, requests_per_minute=None)
        code, out, _, _ = pipe.tap("--doctor")
        walk.check("by default 2,400 an hour", "2400 queries an hour" in out, says(out, "queries an hour"))
    with Walked(walk, box, event_types=["paced"], page_size=1, max_wait_minutes=1) as pipe:
        box.ask("limits", {"rate_limits": "on", "rates": {"api_queries_burst": "1000/minute", "api_queries_sustained": "70/hour"}, "reset": True})
        box.forget()
        run = pipe.run("--max-runtime", "60")
        statuses = [query["status"] for query in box.queries()]
        box.ask("limits", {"rate_limits": "off", "reset": True})
        learned = says(run.tap_log, "120")
        # The run may end while the last one of those that are allowed is under way on its other thread.
        walk.check("a server of the legacy tier (120 an hour, of which 50 were used): the tier is learned, exit 75", run.tap_code == 75 and statuses.count(200) in (69, 70) and learned, f"{statuses.count(200)} answers, {statuses.count(429)} refused; {learned}; {last(run.tap_log)}")
    walk.note("a whole hour with a simulated clock, and several processes in it: tests of src/posthog/limits.rs")


@row(18, "US, EU, self-hosted")
def places(walk, box):
    with Gate(walk, "$PROXY") as proxy, Walked(walk, box, proxy=f"http://{proxy.host}") as pipe:
        for region, host in (("us", "us.posthog.com:443"), ("eu", "eu.posthog.com:443"), (None, "us.posthog.com:443")):
            proxy.seen.clear()
            pipe.config.update(region=region, custom_base_url=None)
            pipe.tap("--doctor")
            asked = {(method, path) for method, path, _ in proxy.seen}
            walk.check(f"region {region or '(not given)'}: {host}", asked == {("CONNECT", host)} and not any("authorization" in headers for _, _, headers in proxy.seen), f"a proxy that refuses was asked for {asked}, without the key")
    with Walked(walk, box, custom_base_url=None) as pipe:
        code, _, err, _ = pipe.tap()
        walk.check("self_hosted without custom_base_url: refused", code == 3 and "custom_base_url" in err)
    box.ingest(events("place", [now_us() - HOUR - n for n in range(5)]))
    for given in ("/sub/path", "/sub/path/", "/sub/path/api/projects/1/query/"):
        with Gate(walk, "$GATE", box, prefix="/sub/path") as gate, Walked(walk, box, event_types=["place"], custom_base_url=f"http://{gate.host}{given}") as pipe:
            good(walk, f"custom_base_url ends in {given}", pipe.run(), 5)
            walk.check("all below the sub-path", all(path.startswith("/sub/path/api/") for _, path, _ in gate.seen), f"{len(gate.seen)} requests, {gate.seen[0][1]}")
    with Gate(walk, "$ELSEWHERE") as elsewhere, Gate(walk, "$GATE", box, answer=lambda handler, path: handler.reply(302, b"", {"Location": elsewhere.url + path})) as gate, Walked(walk, box, event_types=["place"], custom_base_url=gate.url) as pipe:
        code, _, err, _ = pipe.tap()
        walk.check("a redirect to another host is not followed", code == 3 and not elsewhere.seen and "redirect" in err, f"{len(gate.seen)} request, {len(elsewhere.seen)} at the other host")
    for address in ("http://posthog.example.com", "https://us.i.posthog.com", "https://user:pw@posthog.example.com", "ftp://posthog.example.com"):
        with Walked(walk, box, custom_base_url=address) as pipe:
            code, out, err, seconds = pipe.tap()
            walk.check(f"{address}: refused before any request", code == 3 and seconds < 1 and "pw@" not in err)
    with Gate(walk, "$PROXY", box) as proxy, Walked(walk, box, event_types=["place"], proxy=f"http://{proxy.host}") as pipe:
        good(walk, "through a proxy", pipe.run(), 5)
        walk.check("all of it", len(proxy.seen) > 3 and all(path.startswith(box.url) for _, path, _ in proxy.seen), f"{len(proxy.seen)} requests, {proxy.seen[0][1]}")
    with tempfile.TemporaryDirectory() as folder:
        context, pem = certificate(folder)
        walk.names[pem] = "cert.pem"
        with Gate(walk, "$TLS", box, tls=context) as gate, Walked(walk, box, event_types=["place"], custom_base_url=gate.url) as pipe:
            code, out, _, _ = pipe.tap("--doctor")
            walk.check("a certificate of nobody's: refused, nothing sent", (code, len(gate.seen)) == (4, 0), json.loads(out)["message"])
            pipe.config["ca_file"] = pem
            good(walk, "with ca_file", pipe.run(), 5)


@row(19, "Discovery")
def discovery(walk, box):
    with Walked(walk, box, data_type=None) as pipe:
        one, two = pipe.tap("--discover"), pipe.tap("--discover")
        names = [stream["tap_stream_id"] for stream in json.loads(one[1])["streams"]]
        differing = [(a, b) for a, b in zip(one[1].splitlines(), two[1].splitlines()) if a != b]
        walk.check("twice the same but for discovered_at", one[0] == two[0] == 0 and [a.split(":")[0].strip() for a, _ in differing] == ['"discovered_at"'], f"{len(one[1])} bytes, {len(names)} streams, differing lines: {differing}")
        walk.check("a fingerprint that does not hash discovered_at", re.fullmatch("sha256:[0-9a-f]{64}", json.loads(one[1])["fingerprint"]), json.loads(one[1])["fingerprint"])
        walk.check("streams are sorted", names == sorted(names), " ".join(names))
        for key in ("phx_box_query_only", "phx_box_no_query"):
            pipe.config["api_key"] = key
            code, out, err, _ = pipe.tap("--discover")
            less = [stream["tap_stream_id"] for stream in json.loads(out)["streams"]]
            warned = [line for line in err.splitlines() if "left out" in line]
            walk.check(f"{walk.plain(key)}: the rest is absent, with one warning", code == 0 and 0 < len(less) < len(names) and len(warned) == 1, f"{' '.join(less)}; {last(warned[0])[:120]}")
    walk.differs("Osiris' list `resources` is not printed; its discovered_at and fingerprint stand in the Singer catalog")


@row(20, "Doctor: healthy / error + category in <= 2 s")
def doctor(walk, box):
    def stuck(handler, _):
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", "500")
        handler.end_headers()
        handler.wfile.write(b"{")
        time.sleep(4)
        return True
    with socket.socket() as closed, Gate(walk, "$STUCK", box, answer=stuck) as headers:
        closed.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{closed.getsockname()[1]}"
        walk.names[dead] = "$CLOSED"
        tls = box.url.replace("http:", "https:")
        causes = {"healthy": ({}, None, "ok", 0), "an unknown key": ({"api_key": "phx_nobody_knows"}, None, "auth", 3), "a phc_ key": ({"api_key": "phc_0123456789"}, None, "auth", 3), "no scope query:read": ({"api_key": "phx_box_no_query"}, None, "permission", 3),
                  "a key of another project": ({"api_key": "phx_box_other_project"}, None, "permission", 3), "somebody else's project": ({"project_id": 2}, None, "permission", 3), "no such project (404)": ({"project_id": 77}, None, "permission", 3),
                  "nobody listens": ({"custom_base_url": dead}, None, "network", 4), "no such host": ({"custom_base_url": "https://no-such-host.invalid"}, None, "network", 4), "TLS where there is none": ({"custom_base_url": tls}, None, "network", 4),
                  "no answer": ({}, {"action": "hang", "seconds": 4}, "timeout", 4), "hangs after the headers": ({"custom_base_url": headers.url}, None, "timeout", 4), "a page of HTML, 200": ({}, {"action": "html_200"}, "unknown", 4),
                  "a page of HTML, 403": ({}, {"action": "cloudflare_403"}, "unknown", 4), "502": ({}, {"action": "bad_gateway_502"}, "unknown", 4), "throttled": ({}, {"action": "throttle_429", "retry_after": 900}, "rate_limit", 4),
                  "a redirect": ({}, {"action": "redirect_302"}, "config", 3), "no key": ({"api_key": None}, None, "config", 3)}
        for name, (settings, fault, category, exit_code) in causes.items():
            with Walked(walk, box, data_type=None, **settings) as pipe:
                box.forget()
                if fault:
                    box.fault(**fault)
                code, out, _, seconds = pipe.tap("--doctor")
                report = json.loads(out)
                kept = {"status", "category", "message", "timestamp", "latency_ms"} <= set(report) and report["status"] == ("healthy" if category == "ok" else "error")
                walk.check(f"{name}: {category}, exit {exit_code}, within 2.5 s", (code, report["category"]) == (exit_code, category) and kept and seconds <= 2.5, f"{report['category']}, exit {code}, {seconds:.2f} s, latency_ms {report['latency_ms']}: {report['message'][:160]}")
        box.forget()
    walk.not_shown("the wrong region: only PostHog Cloud has two (src/tap/doctor/network_tests.rs)")


@row(21, "Output parquet + state.json")
def files(walk, box):
    settings = {"batch_size_rows": 1_500, "max_batch_age_minutes": 0.005}
    with Walked(walk, box, settings, page_size=400, initial_since="2026-10-20", until="2026-11-05") as pipe:
        box.forget()
        box.fault("delay", seconds=1, body=PAGES)
        for victims in ("tap", "target", "both"):
            kept = pipe.target("state").stdout
            pipe.state = kept if kept.strip() else {}
            walk.note(f"kill -9 of {victims} after 6.5 s; the state before is {len(kept)} bytes, {len(pipe.files())} files")

            def kill(tap, target):
                time.sleep(6.5)
                for process in {"tap": [tap], "target": [target], "both": [tap, target]}[victims]:  # noqa: B023
                    process.kill()
            run = pipe.run(during=kill, keep_state=False)
            torn = []
            for path in pipe.files():
                try:
                    pipe.arrow_rows(path)
                except Exception as error:
                    torn.append((path, error))
            walk.check(f"killed {victims}: every file under output/events is whole", not torn and 137 in (run.tap_code, run.target_code), torn or f"{len(pipe.files())} files, exit {run.tap_code} | {run.target_code}")
        box.forget()
        pipe.state = pipe.target("state").stdout
        run = pipe.run()
        walk.check("the last run ends well", (run.tap_code, run.target_code) == (0, 0), run.says() if run.tap_code else "")
        walk.same("0 lost, 0 repeated", compare(box, pipe, "timestamp < '2026-11-05'"))
        walk.check("`target-parquet state` is the last line that was printed", pipe.target("state").stdout.strip() == run.states[-1])
        foreign = [path for path in (pipe.folder / "out" / "events").rglob("*") if path.suffix != ".parquet"]
        staged = [path for path in (pipe.folder / "out" / "_target" / "staging").rglob("*") if path.is_file()]
        walk.check("nothing else is left: no partial files, no staged ones", not foreign and not staged, f"{len(foreign)} and {len(staged)}")


@row(22, "256-512 MB")
def memory(walk, box):
    peaks = []
    for since in ("2026-10-25", SINCE):
        with Walked(walk, box, initial_since=since) as pipe:
            run = pipe.run()
            peaks.append((run.rows(), run.tap_mb, run.target_mb))
            walk.check("tap and target together at most 150 MB", run.tap_code == 0 and run.tap_mb + run.target_mb <= 150, f"{run.rows()} rows: {run.tap_mb} + {run.target_mb} MB")
    with Walked(walk, box, event_types=["megabyte"]) as pipe:
        for _ in range(6):
            box.ingest(events("megabyte", [now_us() - HOUR - n for n in range(10)], properties={"long": "0123456789 " * 95_000}))
        run = pipe.run()
        good(walk, "rows of 1 MB", run, 60)
        walk.check("at most 150 MB", run.tap_mb + run.target_mb <= 150, f"{run.tap_mb} + {run.target_mb} MB")
    with Box(1_000) as own:
        name_box(walk, own)
        own.ingest(events("columns", [now_us() - HOUR - n for n in range(200)], properties={f"property {n}": f"value {n}" for n in range(5_000)}))
        with Walked(walk, own, event_types=["columns"], max_property_columns=4_900) as pipe:
            run = pipe.run()
            good(walk, "200 rows of 4,900 columns and more properties", run, 200)
            walk.check("at most 150 MB", run.tap_mb + run.target_mb <= 150, f"{run.tap_mb} + {run.target_mb} MB; {len(pipe.arrow_rows(pipe.files()[0])[0])} columns")
    walk.note("peaks are VmHWM of each program; a cgroup of 256 MB and 10 million rows: tests/long/box_sandbox.py")


@row(23, "No hard-coded paths, no env reads (in component mode)")
def environment(walk, box):
    lies = {"TAP_POSTHOG_API_KEY": "phx_wrong", "TAP_POSTHOG_PROJECT_ID": "77", "HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", "ALL_PROXY": "http://127.0.0.1:9", "TARGET_PARQUET_DESTINATION_PATH": "/nowhere", "HOME": "/nowhere", "TMPDIR": "/nowhere"}
    box.ingest(events("bare", [now_us() - HOUR - n for n in range(50)]))
    for name, variables in {"env -i": {}, "an environment that lies": lies}.items():
        with Walked(walk, box, event_types=["bare"]) as pipe:
            before = sorted(os.listdir("/"))
            tap = pipe.tap_command()
            target = [TARGET, "--config", pipe.write("target.json", pipe.target_config)]
            told = "env -i" if not variables else " ".join(f"{key}={value}" for key, value in variables.items())
            walk.command(f"cd / && {told} tap-posthog --config $DIR/posthog.json | {told} target-parquet --config $DIR/parquet.json")
            first = subprocess.run(tap, env=variables, cwd="/", capture_output=True, timeout=HANG_SECONDS)
            second = subprocess.run(target, env=variables, cwd="/", input=first.stdout, capture_output=True, timeout=HANG_SECONDS)
            walk.hear("both", first.stdout, first.stderr, second.stdout, second.stderr)
            walk.outcome(f"exit {first.returncode} | {second.returncode}; {last(first.stderr.decode())}")
            walk.check(f"{name}, at /: 50 events", (first.returncode, second.returncode) == (0, 0) and compare(box, pipe, "event = 'bare'").none(), compare(box, pipe, "event = 'bare'"))
            walk.check("nothing new in /", sorted(os.listdir("/")) == before)
            pipe.write("part.json", {name: value for name, value in pipe.config.items() if name != "api_key"})
            done = subprocess.run([TAP, "--config", str(pipe.folder / "part.json"), "--config=ENV"], env={"TAP_POSTHOG_API_KEY": KEY}, cwd="/", capture_output=True, timeout=HANG_SECONDS)
            walk.command(f"cd / && env -i TAP_POSTHOG_API_KEY={KEY} tap-posthog --config $DIR/part.json --config=ENV")
            walk.hear("tap", done.stdout, done.stderr)
            walk.check("the environment is read where --config=ENV says so", done.returncode == 0 and done.stdout.count(b'"RECORD"') == 50, f"exit {done.returncode}")


@row(24, "Secrets never logged")
def secrets(walk, box):
    loud = {"TAP_POSTHOG_LOGLEVEL": "DEBUG"}

    def echo(handler, path):
        key = handler.headers.get("Authorization") or ""
        body = {"type": "x", "code": "x", "detail": f"you sent {key} and {key.split(' ')[-1]} to {path}", "attr": None}
        return handler.reply(400, json.dumps(body).encode())

    def page(handler, _):
        return handler.reply(500, f"<html>{handler.headers.get('Authorization')}</html>".encode(), {"Content-Type": "text/html"})
    for name, answer in {"an error that says the key": echo, "a page that says the key": page}.items():
        with Gate(walk, "$ECHO", box, answer=answer) as gate, Walked(walk, box, custom_base_url=gate.url) as pipe:
            code, out, err, _ = pipe.tap("--doctor", env=loud)
            walk.check(f"{name}: masked", code and KEY not in out + err and gate.seen, json.loads(out)["message"][:200])
    for name, settings in {"the key in the address": {"custom_base_url": f"https://{KEY}@posthog.example.com"}, "the key in a query": {"custom_base_url": f"https://posthog.example.com/?k={KEY}"}, "the key in a path": {"custom_base_url": f"ftp://posthog.example.com/{KEY}"},
                           "a password of the proxy": {"proxy": "http://user:phx_box_query_only@127.0.0.1:9"}, "the key as data_type": {"data_type": KEY}, "the key as a setting of another type": {"page_size": KEY}}.items():
        with Walked(walk, box, **settings) as pipe:
            code, out, err, _ = pipe.tap("--doctor", env=loud)
            walk.check(f"{name}: masked", code and not re.search("phx_box_[a-z]", out + err), f"exit {code}: {json.loads(out)['message'][:200]}")
    for stream in ("projects", "persons"):
        with Walked(walk, box, data_type=stream, page_size=100) as pipe:
            code, out, err, _ = pipe.tap(env=loud)
            walk.check("at DEBUG" + (", of objects that hold tokens" if stream == "projects" else ""), code == 0 and KEY not in out + err and "phc_" not in out, f"{err.count('DEBUG')} DEBUG lines")
    for name, text in {"a config file that is cut": '{"api_key": "' + KEY + '", "project_id": ', "a config file of YAML that is broken": f"api_key: {KEY}\n  project_id: [1"}.items():
        with Walked(walk, box) as pipe:
            walk.command(f"tap-posthog --config {name}")
            done = subprocess.run([TAP, "--config", pipe.write("broken", text)], capture_output=True, text=True, timeout=HANG_SECONDS)
            walk.hear("tap", done.stdout, done.stderr)
            walk.check(f"{name}: masked", done.returncode == 3 and KEY not in done.stderr, last(done.stderr))
    walk.hear_others()
    walk.check("all that the programs said in all rows: no key in it", not walk.leaks, walk.leaks or f"{walk.heard_texts} texts, {walk.heard_bytes / 1e6:.1f} MB of standard output, standard error, states and commit logs")


@row(26, "Incremental progress log")
def progress(walk, box):
    box.ingest(events("slow", [now_us() - HOUR - n for n in range(300)]))
    with Walked(walk, box, event_types=["slow"], page_size=100) as pipe:
        box.forget()
        box.fault("throttle_429", next=1, skip=2, body=PAGES, retry_after=22)
        run = pipe.run()
        lines = [line for line in run.tap_log.splitlines() if "rows/s" in line]
        times = [datetime.datetime.fromisoformat(line.split()[0].replace("Z", "+00:00")).timestamp() for line in lines]
        for line in lines:
            walk.note("standard error: " + last(line))
        parts = ["events: ", " of about 300 rows (", " %), ", " rows/s", " s left", "waited "]
        # Of the thread that was refused, or of the other one.
        waits = ["s more: PostHog's request limit", "s more: PostHog asked another request to come back later"]
        walk.check("a line every 10 s: rows, share, rate, time left, waits", len(lines) == 2 and all(part in lines[-1] for part in parts) and any(wait in lines[-1] for wait in waits) and 9 < times[1] - times[0] < 13, f"{len(lines)} lines in {run.seconds:.0f} s")
        walk.check("METRIC lines add up to the records", sum(int(value) for value in re.findall(r'"record_count","value":(\d+)', run.tap_log)) == 300, re.findall(r"METRIC: \{.*record_count.*", run.tap_log))
    with Walked(walk, box, event_types=["slow"], page_size=100) as pipe:
        box.forget()
        box.fault("throttle_429", next=1, skip=2, body=PAGES, retry_after=3)
        pipe.show(pipe.words(()) + "  # standard error is a terminal")
        master, slave = pty.openpty()
        tap = start(pipe.tap_command(), stdout=subprocess.DEVNULL, stderr=slave, cwd=pipe.folder, env={**os.environ, "TERM": "xterm", "COLUMNS": "180"})
        os.close(slave)
        shown = b""
        with contextlib.suppress(OSError):  # a terminal that nobody writes to any more
            while part := os.read(master, 65536):
                shown += part
        os.close(master)
        walk.hear("tap on a terminal", shown)
        bars = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text) for text in re.split(r"[\r\n]", shown.decode(errors="replace")) if "rows/s" in text]
        walk.check("a terminal shows a bar with the same", tap.wait() == 0 and bars and "█" in shown.decode(errors="replace"), f"{len(bars)} drawings, the last: {bars[-1].strip() if bars else ''}")
    with Walked(walk, box, event_types=["slow"], page_size=100) as pipe:
        code, _, err, _ = pipe.tap(env={"TAP_POSTHOG_LOGLEVEL": "WARNING"})
        walk.check("quiet: nothing on standard error", code == 0 and err == "", f"{len(err)} bytes")
