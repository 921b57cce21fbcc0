"""Ten million events through the pipe inside a memory cgroup of 256 MB, without swap: both programs and the page cache.

    python tests/long/box_sandbox.py [--events 10000000] [--url http://127.0.0.1:8701]

Needs the right to make a cgroup (root, or a delegated one); without it the run goes on unbounded and says so.
"""
import argparse
import contextlib
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "second"))
from box import Box, Pipe, Report, compare  # noqa: E402

MB = 1 << 20
OLD, NEW = pathlib.Path("/sys/fs/cgroup/memory"), pathlib.Path("/sys/fs/cgroup")


class Sandbox:
    """A memory cgroup (version 1 or 2) that this process enters, so that what it starts is in it."""

    def __init__(self, megabytes):
        self.root = OLD if OLD.is_dir() else NEW
        self.folder = self.root / f"pipe-{os.getpid()}"
        names = {"limit": "memory.limit_in_bytes", "peak": "memory.max_usage_in_bytes"} if self.root == OLD else {"limit": "memory.max", "peak": "memory.peak"}
        self.names = names
        try:
            self.folder.mkdir()
            (self.folder / names["limit"]).write_text(str(megabytes * MB))
            self.works = True
        except OSError as error:
            print(f"no cgroup: {error}", flush=True)
            self.works = False

    def __enter__(self):
        if self.works:
            (self.folder / "cgroup.procs").write_text(str(os.getpid()))
        return self

    def __exit__(self, *_):
        if self.works:
            (self.root / "cgroup.procs").write_text(str(os.getpid()))

    def peak_mb(self):
        return int((self.folder / self.names["peak"]).read_text()) // MB if self.works else -1

    def kills(self):
        if not self.works:
            return -1
        text = (self.folder / ("memory.oom_control" if self.root == OLD else "memory.events")).read_text()
        return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill "))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--url")
    arguments = parser.parse_args()
    report = Report("box_sandbox")
    with Box(arguments.events, url=arguments.url) as box, Pipe(box) as pipe:
        sandbox = Sandbox(256)
        with sandbox:
            run = pipe.run()
        report.check("ends well", (run.tap_code, run.target_code) == (0, 0), f"{run.rows()} rows in {run.seconds:.0f} s, {run.tap_mb} MB tap, {run.target_mb} MB target, {run.cpu} s of CPU")
        report.check("inside the sandbox", sandbox.works and sandbox.kills() == 0, f"peak {sandbox.peak_mb()} MB with the page cache, {sandbox.kills()} kills")
        report.check("together below 150 MB", run.tap_mb + run.target_mb <= 150, run.tap_mb + run.target_mb)
        proved, slices = run.proof() or (0, -1)
        report.check("proved", proved == slices, f"{proved} of {slices} slices, {len(box.queries())} queries")
        report.same("whole", compare(box, pipe))
        with contextlib.suppress(OSError):
            sandbox.folder.rmdir()
    report.end()


if __name__ == "__main__":
    main()
