"""Every fault that posthog-box can play, on 20,000 events: what the tap makes of it, and that nothing is lost or repeated.

    python tests/second/box_faults.py [--all] [--only ACTION...]

Each fault comes `next: 2` and `every: N` (with --all also `next: 1`) on page queries, a lasting refusal `next: 1`; at `p: 0.2` they hit
all queries. The outcome is part of the check: retried (exit 0, the rows complete), split (exit 0, and less is asked for), or refused
(exit 4, 3 or 9, and the next run without the fault completes the files).
"""
import argparse
import datetime
import email.utils
import queue
import re
import threading
import traceback

from box import Box, Pipe, Report, compare

PAGE = "cityHash64(distinct_id), timestamp, uuid"  # in the ORDER BY of page queries only
PAGES = PAGE.replace("(", ".").replace(")", ".")  # as a pattern
RETRIED, SPLIT, REFUSED, HARMLESS, PROVED = "retried", "split", "refused", "harmless", "noticed by the count proof"
# 9: the same slice was hit in both its readings
CODES = {"type_mismatch_400": (4,), "auth_401": (3,), "redirect_302": (3,), "empty_results": (0, 9), "drop_last_row": (0, 9)}

# action: (outcome, what goes with the action)
FAULTS = {
    "throttle_429": (RETRIED, {"retry_after": 1}), "budget_429": (RETRIED, {"retry_after": 1}), "concurrency_429": (RETRIED, {}),
    "server_500": (RETRIED, {}), "ch_error_500": (RETRIED, {}), "bad_gateway_502": (RETRIED, {}), "unavailable_503": (RETRIED, {}),
    "db_unavailable_503": (RETRIED, {}), "capacity_503": (RETRIED, {}), "timeout_504": (SPLIT, {}), "estimated_512": (SPLIT, {}),
    "memory_513": (SPLIT, {}), "too_many_bytes_400": (SPLIT, {}), "type_mismatch_400": (REFUSED, {}), "auth_401": (REFUSED, {}),
    "redirect_302": (REFUSED, {}), "cloudflare_524": (RETRIED, {}), "cloudflare_502": (RETRIED, {}), "cloudflare_403": (RETRIED, {}),
    "html_200": (RETRIED, {}), "empty_body": (RETRIED, {}), "reset": (RETRIED, {}), "hang": (RETRIED, {"seconds": 3}),
    "reset_mid": (RETRIED, {}), "cut_body": (RETRIED, {}), "chunked_cut": (RETRIED, {}), "truncated_json": (RETRIED, {}),
    "slow": (HARMLESS, {"bytes": 400_000, "pause": 0.05}), "delay": (HARMLESS, {"seconds": 1}), "gzip": (HARMLESS, {}),
    "gzip_corrupt": (RETRIED, {}), "wrong_type": (RETRIED, {}), "error_field": (RETRIED, {}), "null_results": (RETRIED, {}),
    "missing_results": (RETRIED, {}), "extra_column": (RETRIED, {}), "empty_results": (PROVED, {}), "drop_last_row": (PROVED, {}),
    "status": (RETRIED, {"status": 520, "body_text": "unknown"}),
}
EVERY = 3
BOXES = 3
MIXED = ["throttle_429", "concurrency_429", "server_500", "bad_gateway_502", "unavailable_503", "timeout_504", "memory_513", "reset", "reset_mid", "cut_body",
         "truncated_json", "gzip_corrupt", "wrong_type", "html_200", "error_field", "null_results", "empty_results", "drop_last_row", "extra_column", "chunked_cut"]


def outcome_of(run):
    if run.tap_code != 0:
        return f"{REFUSED} (exit {run.tap_code})"
    return "complete"


def one(report, box, action, when):
    """A run with the fault; a second one without it where the first was refused."""
    expected, extra = FAULTS[action]
    name = f"{action} {', '.join(f'{key}: {value}' for key, value in when.items())}"
    with Pipe(box, page_size=2_500) as pipe:
        box.forget()
        box.fault(action, body=PAGES, **extra, **when)
        run = pipe.run()
        fired, queries = box.fired(), box.queries()
        wrong = box.careless(faults=True)
        box.ask("faults", method="DELETE")
        if not report.check(f"{name}: the fault was played", fired >= when.get("next", 1), f"{fired} times"):
            return
        codes = CODES.get(action, (0,))
        told = run.tap_log.strip().splitlines()[-1:] if run.tap_code else [f"{run.seconds:.1f} s"]
        report.check(f"{name}: {expected}", run.tap_code in codes and run.target_code == 0, f"{outcome_of(run)}, {fired} faults; {told[0][:200] if told else ''}" if run.tap_code in codes else run.says())
        if expected == SPLIT:
            sizes = [int(query["sql"].rsplit("LIMIT ", 1)[1]) for query in queries if PAGE in query["sql"]]
            report.check(f"{name}: less is asked for", min(sizes) < max(sizes), sizes)
        if run.tap_code != 0:
            again = pipe.run()
            report.check(f"{name}: the next run completes it", (again.tap_code, again.target_code) == (0, 0), again.says() if again.tap_code else "")
        report.same(name, compare(box, pipe))
        report.check(f"{name}: careful queries", not wrong, wrong[:2])


def retry_after(report, box):
    """Waits that the server asks for, as seconds and as a date, are kept to and announced."""
    for form in ("seconds", "date"):
        with Pipe(box, page_size=5_000) as pipe:
            box.forget()
            until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=30)
            box.fault("throttle_429", retry_after=20 if form == "seconds" else email.utils.format_datetime(until, usegmt=True), body=PAGES, next=1)
            run = pipe.run()
            requests = box.ask("queries?last=1000")["queries"]
            refused = [number for number, request in enumerate(requests) if request["status"] == 429]
            asked = until.timestamp() if form == "date" else requests[refused[0]]["at"] + 20 if refused else 0
            late = requests[-1]["at"] - asked
            report.check(f"Retry-After as {form}: complete", (run.tap_code, run.target_code) == (0, 0), run.says() if run.tap_code else "")
            report.check(f"Retry-After as {form}: waited for", len(refused) == 1 and late > -1, f"{late:.1f} s after the time that was asked for")
            report.check(f"Retry-After as {form}: the wait is announced", re.search("waiting [0-9]+ s", run.tap_log), run.tap_log[-300:])
            report.same(f"Retry-After as {form}", compare(box, pipe))


def budget(report, box):
    """`budget: stop` and a wait longer than allowed end with 75 and a state; the next run goes on."""
    for settings in ({"budget": "stop"}, {"max_wait_minutes": 1}):
        with Pipe(box, page_size=1_000, **settings) as pipe:
            box.forget()
            box.fault("budget_429", retry_after=600, body=PAGES, skip=4)
            run = pipe.run()
            box.ask("faults", method="DELETE")
            report.check(f"byte budget used up, {settings}: exit 75 with a cursor", (run.tap_code, run.target_code) == (75, 0) and "cursor" in run.states[-1], run.says() if run.tap_code != 75 else run.states[-1:])
            again = pipe.run()
            report.check(f"byte budget used up, {settings}: the next run ends well", (again.tap_code, again.target_code) == (0, 0), again.says() if again.tap_code else "")
            report.same(f"byte budget used up, {settings}", compare(box, pipe))


def limits_of_the_box(report, _):
    """The box's own throttles: its quota, three queries at once, its byte budget."""
    options = ["--query-rate", "15/minute,2400/hour", "--concurrency", "1", "--concurrency-wait", "0.2", "--gzip", "auto", "--budget-gb-per-hour", "200"]
    with Box(5_000, options=options) as box, Pipe(box, page_size=400) as pipe:
        run = pipe.run()
        statuses = [q["status"] for q in box.queries()]
        report.check("the box's own limits: ends well", (run.tap_code, run.target_code) == (0, 0), f"{statuses.count(429)} of {len(statuses)} queries refused, {run.seconds:.0f} s" if run.tap_code == 0 else run.says())
        report.check("the box's own limits: they were reached", 429 in statuses, f"{len(statuses)} queries")
        report.same("the box's own limits", compare(box, pipe))


def small_budget(report, _):
    """Half of the bytes that a run needs are there, the rest comes back in four times the time that it would take: it slows
    down, and nothing is refused."""
    with Box(20_000) as box, Pipe(box, page_size=1000) as free, Pipe(box, page_size=1000) as pipe:
        run = free.run()
        report.check("small byte budget: without one", (run.tap_code, run.target_code) == (0, 0), run.says() if run.tap_code else "")
        rest = max(20, 4 * run.seconds)
        needed = sum(query.get("bytes_read") or 0 for query in box.queries())
        box.forget()
        box.ask("limits", {"budget_bytes_per_hour": needed / 2 / rest * 3600, "budget_hours": rest / 3600})
        run = pipe.run()
        statuses = [query["status"] for query in box.queries()]
        report.check("small byte budget: ends well", (run.tap_code, run.target_code) == (0, 0), run.says() if run.tap_code else f"{needed / 1e6:.1f} MB in {run.seconds:.0f} s, the rest of the budget in {rest:.0f}")
        report.check("small byte budget: no query is refused", 429 not in statuses, f"{statuses.count(429)} of {len(statuses)}")
        report.check("small byte budget: the wait is announced", "byte budget is nearly used up" in run.tap_log, run.tap_log[-600:])
        report.same("small byte budget", compare(box, pipe))


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--only", nargs="*")
    arguments.add_argument("--all", action="store_true")
    given = arguments.parse_args()
    report = Report("box_faults")
    jobs = queue.Queue()
    for name, job in (("budget", budget), ("limits", limits_of_the_box), ("small_budget", small_budget), ("mixed", mixed), ("retry_after", retry_after)):
        if not given.only or name in given.only:
            jobs.put((job, ()))
    for action, (expected, _) in FAULTS.items():
        if not given.only or action in given.only:
            for when in ({"next": 1}, {"next": 2}, {"every": EVERY}):
                # One passing fault alone is what `every` plays too; behind one that lasts there is no second.
                if when == {"next": 2 if expected == REFUSED else 1} and not given.all:
                    continue
                jobs.put((one, (action, {**when, "skip": 2})))
    # Waits take most of the time: several boxes, each with one scenario at a time.
    workers = [threading.Thread(target=work, args=(report, jobs), daemon=True) for _ in range(BOXES)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    report.end()


def work(report, jobs):
    with Box(20_000) as box:
        while True:
            try:
                job, arguments = jobs.get_nowait()
            except queue.Empty:
                return
            try:
                job(report, box, *arguments)
            except Exception:
                report.check(f"{job.__name__} {arguments}", False, traceback.format_exc())


def mixed(report, box):
    for seed in (1, 2):
        with Pipe(box, page_size=700) as pipe:
            box.forget()
            share = 0.2 / len(MIXED)
            rules = [{"action": action, "p": share, "seed": seed * 100 + number, **FAULTS[action][1]} for number, action in enumerate(MIXED)]
            box.ask("faults", {"rules": rules})
            run, runs = pipe.run(), 1
            while run.tap_code in (4, 9) and runs < 4:
                run, runs = pipe.run(), runs + 1
            fired = box.fired()
            box.ask("faults", method="DELETE")
            report.check(f"mixed at p 0.2, seed {seed}: ends well", (run.tap_code, run.target_code) == (0, 0), f"{fired} faults, {runs} runs, {run.seconds:.0f} s" if run.tap_code == 0 else run.says())
            # Chance hits requests in the order in which two threads send them: 12 and 7 came last, and less than 5 have come.
            report.check(f"mixed at p 0.2, seed {seed}: the faults were played", fired >= 3, f"{fired} times")
            report.same(f"mixed at p 0.2, seed {seed}", compare(box, pipe))


if __name__ == "__main__":
    main()
