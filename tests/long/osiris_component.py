"""The component in the real Osiris: osiris-pipeline and the wheel in an empty environment, against a box.

    python tests/long/osiris_component.py

The connection and the pipeline are those of integrations/osiris/README.md. The worker of the sandbox runs as a process of this machine;
it works in /home/user/session, which needs rights to make that folder.
"""
import contextlib
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
import uuid

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "second"))
import yaml  # noqa: E402

from box import KEY, ROOT, Box, Difference, Report, Truth, now_us, iso  # noqa: E402
from python_wheel import Environment, build  # noqa: E402

OSIRIS = "osiris-pipeline==0.5.7"
NAME = "posthog.singer_extractor"
GUIDE = ROOT / "integrations" / "osiris" / "README.md"


class Project:
    """An Osiris project in a folder of its own."""

    def __init__(self, environment, box):
        self.environment, self.box = environment, box
        self.folder = environment.folder / "project"
        self.folder.mkdir()
        self.data = environment.folder / "data"
        self.data.mkdir()
        connection, pipeline = (text.replace("/data/", f"{self.data}/") for text in re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.S))
        self.connection = yaml.safe_load(connection)
        self.connection["connections"]["posthog"]["main"] |= {"project_id": 1, "region": "self_hosted", "custom_base_url": box.url}
        self.pipeline = yaml.safe_load(pipeline)
        self.osiris("init")

    def osiris(self, *arguments, key=KEY, **more):
        (self.folder / "osiris_connections.yaml").write_text(yaml.safe_dump(self.connection))
        (self.folder / "pipelines").mkdir(exist_ok=True)
        (self.folder / "pipelines" / "daily.yaml").write_text(yaml.safe_dump(self.pipeline, sort_keys=False))
        done = self.environment.run("osiris", *arguments, cwd=self.folder, POSTHOG_KEY=key, COLUMNS="400", **more)
        done.both = done.stdout + done.stderr
        return done

    def step(self, **config):
        self.pipeline["steps"][0]["config"] |= config

    def logs(self):
        return "".join(path.read_text(errors="replace") for path in (self.folder / "run_logs").rglob("*") if path.is_file())

    def counts(self):
        return {row.split(",")[0]: int(row.split(",")[1]) for row in (self.data / "events.csv").read_text().splitlines()[1:]}

    def difference(self):
        files = sorted(str(path) for path in (self.data / "posthog" / "events").rglob("*.parquet"))
        return Difference(Truth(self.box, "2026-01-01"), "SELECT epoch_us(timestamp) AS timestamp_us, event, distinct_id, uuid::VARCHAR AS uuid, "
                          f"epoch_us(created_at) AS created_us FROM read_parquet({files!r}, union_by_name = true)")


def commands(report, project):
    """What Osiris asks of a component before a run."""
    valid = project.osiris("components", "validate", NAME, "--level", "strict")
    report.check("valid at the strict level", valid.returncode == 0 and "is valid" in valid.both, valid.both)
    (project.folder / "discover.yaml").write_text("connection: '@posthog.main'\n")
    found = [project.osiris("components", "discover", NAME, "--config", "discover.yaml").both for _ in range(2)]
    prints = [re.findall(r"sha256:[0-9a-f]{64}", text) for text in found]
    report.check("discovery: the fingerprint stays", len(prints[0]) == 1 and prints[0] == prints[1] and "events (table)" in found[0], found[0][-1500:])


def local(report, project):
    """The local runner: everything, then what is new, then failures."""
    box = project.box
    first = project.osiris("run", "pipelines/daily.yaml")
    report.check("a first run", first.returncode == 0 and (project.data / "events.csv").exists(), first.both[-2000:] + project.logs()[-2000:])
    report.same("a first run: each row once", project.difference())
    box.ingest([{"event": "late", "distinct_id": f"d{n}", "timestamp": iso(now_us() - n * 86_400_000_000)} for n in range(1, 6)] + [{"event": "new", "distinct_id": "d", "timestamp": iso(now_us() - 60_000_000)}] * 2)
    second = project.osiris("run", "pipelines/daily.yaml")
    report.check("a second run adds seven rows", second.returncode == 0 and (project.counts()["late"], project.counts()["new"]) == (5, 2), project.counts())
    report.check("the metric rows_read is seven", '"metric":"rows_read","value":7,' in project.logs(), [line for line in project.logs().splitlines() if "rows_read" in line][-3:])
    report.same("a second run: each row once", project.difference())
    wrong = project.osiris("run", "pipelines/daily.yaml", key="phx_wrong_key_of_nobody")
    report.check("a wrong key fails the step with the tap's own words", wrong.returncode != 0 and "target-parquet run ended with exit code 3" in wrong.both and "check api_key" in wrong.both, wrong.both[-2000:])
    project.step(result="rows", folder=str(project.data / "rows"), event_types=["late"])
    project.pipeline["steps"][1]["config"]["query"] = "SELECT event, count(*) AS events, count(DISTINCT uuid) AS uuids FROM df_read GROUP BY event"
    rows = project.osiris("run", "pipelines/daily.yaml")
    report.check("result: rows", rows.returncode == 0 and project.counts() == {"late": 5}, rows.both[-1500:] + str(project.counts()))
    project.step(data_type=None)
    refused = project.osiris("run", "pipelines/daily.yaml")
    report.check("result: rows without a stream is refused", refused.returncode != 0 and "data_type" in refused.both + project.logs(), refused.both[-1500:])
    keys = [str(path) for path in project.folder.parent.rglob("*") if path.is_file() and path.suffix not in (".pyc", ".parquet") and KEY.encode() in path.read_bytes()]
    report.check("the key is in no file", not keys, keys)


def doctor(report, project):
    script = ("import json, sys, tap_posthog.osiris as o; d = o.Driver()\n"
              "for key in sys.argv[2:]: print(json.dumps(d.doctor(config={'resolved_connection': {'key': key, 'project_id': 1, 'region': 'self_hosted', 'custom_base_url': sys.argv[1]}})))")
    said = project.environment.run("python", "-c", script, project.box.url, KEY, "phx_wrong_key_of_nobody")
    well, badly = (json.loads(line) for line in said.stdout.splitlines())
    report.check("the doctor: well", well[0] is True and well[1]["category"] == "ok" and set(well[1]) == {"latency_ms", "category", "message"}, well)
    report.check("the doctor: a wrong key", badly[0] is False and badly[1]["category"] == "auth", badly)


def worker(report, project):
    """The process that runs the steps in a sandbox."""
    session = f"tap-posthog-{uuid.uuid4()}"
    connection = {**project.connection["connections"]["posthog"]["main"], "key": KEY}
    config = {"component": NAME, "resolved_connection": connection, "data_type": "events", "initial_since": "2026-01-01", "result": "rows"}
    orders = [{"cmd": "prepare", "session_id": session, "manifest": {"pipeline": {"id": "p"}, "steps": [{"id": "read"}]}},
              {"cmd": "exec_step", "step_id": "read", "driver": NAME, "config": config}, {"cmd": "cleanup"}]
    made = pathlib.Path("/home/user/session") / session
    try:
        done = project.environment.run("python", "-m", "osiris.remote.proxy_worker", text="".join(json.dumps(order) + "\n" for order in orders), OSIRIS_E2B_DRIVER_ALLOWLIST=NAME)
    finally:
        shutil.rmtree(made, ignore_errors=True)
        with contextlib.suppress(OSError):
            made.parent.rmdir()
            made.parent.parent.rmdir()
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    answers = [message for message in said if message.get("status")]
    report.check("the sandbox's worker ends well", [answer["status"] for answer in answers] == ["ready", "complete", "cleaned"], done.stdout[-1500:] + done.stderr[-800:])
    stored = Truth(project.box, "2026-01-01").rows
    rows = [message["value"] for message in said if message.get("name") == "rows_read"]
    report.check("the worker counts each row once", rows == [stored] and answers[1]["rows_processed"] == stored, f"{rows}, {stored} stored")
    report.check("the key is in nothing that the worker said", KEY not in done.stdout + done.stderr)


def main():
    report = Report("osiris_component")
    with Box(events=5000) as box, tempfile.TemporaryDirectory() as folder:
        wheel, _ = build(folder, "--compatibility", "linux")
        environment = Environment(os.path.join(folder, "environment"))
        installed = environment.pip("install", OSIRIS, str(wheel))
        report.check("installs beside Osiris", installed.returncode == 0, installed.stderr)
        project = Project(environment, box)
        for part in (commands, local, doctor, worker):
            part(report, project)
        environment.pip("uninstall", "--yes", "tap-posthog")
        report.check("uninstalls cleanly", not list(environment.folder.rglob(f"{NAME}*")) and not list(environment.folder.rglob("tap_posthog*")))
    report.end()


if __name__ == "__main__":
    main()
