"""SIGKILL to the tap, the target or both at random instants, then the next run from the last state that the target printed
(sometimes an older one): nothing is lost, nothing is in the files twice, and no reader ever sees a torn file.

    python tests/long/kills.py [--kills 100] [--seed N] [--events 60000]

The seed is printed. Rounds of kills go on until a run finishes by itself; then news arrive and the next round begins.
"""
import argparse
import pathlib
import random
import sys
import threading
import time

import pyarrow.parquet

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "second"))
from box import Box, DAY_US, Pipe, Report, compare, iso, now_us  # noqa: E402


class Reader(threading.Thread):
    """Reads every published file whenever it shows, as somebody would who polls the folder."""

    def __init__(self, pipe):
        super().__init__(daemon=True)
        self.pipe, self.torn, self.read, self.known, self.going = pipe, [], 0, set(), True

    def run(self):
        while self.going:
            for path in self.pipe.files():
                if path in self.known:
                    continue
                try:
                    file = pyarrow.parquet.ParquetFile(path)
                    for group in range(file.num_row_groups):
                        file.read_row_group(group, columns=["uuid", "event", "timestamp"])
                    self.known.add(path)
                    self.read += 1
                except Exception as error:  # whatever a reader would trip over
                    if not pathlib.Path(path).exists():
                        self.torn.append((path, "a published file vanished"))
                    self.torn.append((path, repr(error)))
                    self.known.add(path)
            time.sleep(0.005)


class Killer:
    def __init__(self, dice, longest):
        self.dice, self.longest, self.victims, self.late = dice, longest, {"tap": 0, "target": 0, "both": 0}, 0

    def __call__(self, tap, target):
        victim = self.dice.choice(["tap", "target", "both"])
        end = time.monotonic() + self.dice.uniform(0.005, self.longest)
        while time.monotonic() < end and target.poll() is None:
            time.sleep(0.002)
        if target.poll() is not None:
            self.late += 1
            return
        for process in {"tap": [tap], "target": [target], "both": [tap, target]}[victim]:
            process.kill()
        self.victims[victim] += 1

    def kills(self):
        return sum(self.victims.values())


def arrive(box, dice, round_number):
    now = now_us()
    box.ingest([{"event": f"round {round_number}", "timestamp": iso(now - dice.randrange(5 * DAY_US)), "distinct_id": f"user_{n % 9}", "properties": {"n": n}} for n in range(300)])


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--kills", type=int, default=100)
    arguments.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    arguments.add_argument("--events", type=int, default=60_000)
    given = arguments.parse_args()
    report = Report("kills")
    print(f"seed {given.seed}", flush=True)
    dice = random.Random(given.seed)
    # Small files and batches, so that commits happen all the time.
    target = {"batch_size_rows": 3_000, "max_batch_age_minutes": 0.02}
    with Box(given.events) as box, Pipe(box, target, page_size=1_500) as pipe:
        reader = Reader(pipe)
        reader.start()
        killer = Killer(dice, 0.1)
        states, older, finished, codes = [None], 0, 0, set()
        for number in range(given.kills * 20):
            if killer.kills() >= given.kills:
                break
            # Mostly the last state; now and then one from before, as when a scheduler lost it.
            back = dice.choice([0] * 9 + [1])
            older += back and len(states) > 1
            pipe.state = states[max(0, len(states) - 1 - back)]
            killer.longest = dice.choice([0.1, 1, 3, 8, 60])
            run = pipe.run(during=killer, keep_state=False)
            states += run.states
            codes.add((run.tap_code, run.target_code))
            if (run.tap_code, run.target_code) == (0, 0):
                finished += 1
                arrive(box, dice, finished)
            elif run.tap_code not in (0, 8, 137) or run.target_code not in (0, 6, 137):  # 6: the input ends inside a line
                report.check(f"run {number} ends as a killed pipe may", False, run.says())
        pipe.state = states[-1]
        last = pipe.run()
        report.check("the last run ends well", (last.tap_code, last.target_code) == (0, 0), last.says() if last.tap_code or last.target_code else "")
        time.sleep(0.1)
        reader.going = False
        reader.join(60)
        print(f"{killer.kills()} kills {killer.victims}, {killer.late} came too late, {finished} runs finished, {older} times an older state, exit codes {sorted(codes)}", flush=True)
        report.check(f"{given.kills} kills were made", killer.kills() >= given.kills, killer.kills())
        report.same("after all kills", compare(box, pipe))
        report.check(f"a polling reader read {reader.read} files and saw none torn", reader.read > 0 and not reader.torn, reader.torn[:3])
    report.end()


if __name__ == "__main__":
    main()
