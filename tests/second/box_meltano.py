#!/usr/bin/env python3
"""Meltano itself: the definitions against the hub's schemas and the programs' tables; then a project that is made with the lines of
integrations/meltano/README.md and the wheel, and reads a box: discover, select, config test, two runs with state, --full-refresh, an
extractor and a loader that fail, another target, a tap of the Singer SDK. Meltano is in the environment `<this one>-meltano`."""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import duckdb
import jsonschema
import referencing
import yaml

from box import DAY_US, KEY, ROOT, Box, Difference, Report, TAP, Truth, iso, now_us
from python_wheel import build

HUB = ROOT / "tests" / "second" / "hub"
HOME = ROOT / "integrations" / "meltano"
SINCE = "2026-01-01"
SDK_TAP = '''import singer_sdk, singer_sdk.typing as th
class Numbers(singer_sdk.Stream):
    name, primary_keys, replication_key = "numbers", ["id"], "id"
    schema = th.PropertiesList(th.Property("id", th.IntegerType), th.Property("name", th.StringType)).to_dict()
    is_sorted = True
    def get_records(self, context):
        first = self.get_starting_replication_key_value(context) or 0
        return [{"id": n, "name": f"n{n}"} for n in range(first, 100)]
class Tap(singer_sdk.Tap):
    name = "tap-numbers"
    config_jsonschema = th.PropertiesList().to_dict()
    def discover_streams(self):
        return [Numbers(self)]
Tap.cli()
'''


def against_the_hub(report):
    """Both definitions in the form that the hub takes, and as the programs say."""
    schemas = [json.loads(path.read_text()) for path in HUB.glob("*/*.json")]
    registry = referencing.Registry().with_resources((schema["$id"], referencing.Resource.from_contents(schema)) for schema in schemas)
    for name, kind in (("tap-posthog", "extractors"), ("target-parquet", "loaders")):
        [schema] = [schema for schema in schemas if schema["$id"] == f"{kind}.schema.json"]
        validator = jsonschema.Draft7Validator(schema, registry=registry)
        definition = yaml.safe_load((HOME / f"{name}.yml").read_text())
        report.check(f"{name}: in the hub's form", not list(validator.iter_errors(definition)), [error.message for error in validator.iter_errors(definition)])
        report.check(f"{name}: the form refuses what is wrong", list(validator.iter_errors({**definition, "capabilities": ["fly"]})))
        secrets = {setting["name"] for setting in definition["settings"] if setting.get("sensitive")}
        report.check(f"{name}: secrets are sensitive", secrets == ({"api_key", "proxy"} if name == "tap-posthog" else set()), secrets)
    done = subprocess.run([sys.executable, ROOT / "integrations" / "definitions.py", "--check"], capture_output=True, text=True)
    report.check("the definitions are what the programs say", done.returncode == 0, done.stdout + done.stderr)


class Project:
    """A Meltano project in a folder of its own. Plugins are installed by pip, as it is set up here, with our wheel beside."""

    def __init__(self, folder, wheels, box):
        self.folder = pathlib.Path(folder)
        links = f"{wheels} {os.environ.get('PIP_FIND_LINKS', '')}".strip()
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("TAP_", "TARGET_"))},
            "PATH": f"{sys.prefix}-meltano/bin{os.pathsep}{os.environ['PATH']}",
            "MELTANO_SEND_ANONYMOUS_USAGE_STATS": "false", "MELTANO_VENV_BACKEND": "virtualenv", "MELTANO_CLI_LOG_LEVEL": "info", "NO_COLOR": "1",
            "PIP_FIND_LINKS": links, "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "TAP_POSTHOG_REGION": "self_hosted", "TAP_POSTHOG_CUSTOM_BASE_URL": box.url,
        }

    def run(self, script, **more):
        """Lines of bash. What both streams said is in `stdout`."""
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=self.folder, env={**self.environment, **more}, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)
        print(f"      $ {script.strip().splitlines()[-1]} {more or ''}: exit {done.returncode}", flush=True)
        return done

    def lines_of_the_guide(self):
        """The bash lines of the guide up to the first run, for the box's project and checkout."""
        [text] = re.findall(r"```bash\n(.*?)```", (HOME / "README.md").read_text(), re.S)
        lines = text.replace("project_id 12345", "project_id 1").replace("phx_...", KEY)
        done = self.run(lines, CHECKOUT=str(ROOT))
        self.folder /= "analytics"
        self.environment["TAP_POSTHOG_API_KEY"] = KEY
        return done

    def add(self, kind, **plugin):
        path = self.folder / "meltano.yml"
        project = yaml.safe_load(path.read_text())
        project["plugins"].setdefault(kind, []).append(plugin)
        path.write_text(yaml.safe_dump(project, sort_keys=False))

    def files(self, stream="events"):
        return sorted(str(path) for path in (self.folder / "output" / stream).rglob("*.parquet"))

    def difference(self, box):
        """What the box stores against the files."""
        return Difference(Truth(box, SINCE), "SELECT epoch_us(timestamp) AS timestamp_us, event, distinct_id, uuid::VARCHAR AS uuid, "
                          f"epoch_us(created_at) AS created_us FROM read_parquet({self.files()!r}, union_by_name = true)")


def our_pair(report, project, box):
    """Our tap into our target."""
    first = project.lines_of_the_guide()
    if not report.check("the guide: from nothing to files", first.returncode == 0 and "Run completed" in first.stdout, first.stdout[-3000:]):
        return
    report.same("the guide: each row once", project.difference(box))
    report.check("nothing is warned of that only Meltano could mend", "can be read by every user" not in first.stdout)
    report.check("the doctor answers", '"healthy"' in first.stdout or "healthy" in first.stdout, first.stdout[-2000:])
    listed = project.run("meltano select --list --all tap-posthog").stdout
    report.check("select knows streams and fields", all(re.search(rf"\[{how}\s*\] {field}", listed) for how, field in (("automatic", "events.uuid"), ("selected", "events.properties"), ("excluded", "cohorts.name"))), listed[-1500:])
    tested = project.run("meltano --environment=dev config test tap-posthog")
    report.check("config test: the tap", tested.returncode == 0 and "Plugin configuration is valid" in tested.stdout, tested.stdout[-1500:])

    box.ingest([{"event": "new", "distinct_id": f"d{n}", "timestamp": iso(now_us() - n * DAY_US // 2)} for n in range(7)])
    again = project.run("meltano run tap-posthog target-parquet")
    report.check("the second run reads what is new", again.returncode == 0 and "events: 7 rows" in again.stdout, again.stdout[-2500:])
    report.same("the second run: each row once", project.difference(box))

    kept = project.run("meltano state get dev:tap-posthog-to-target-parquet 2>/dev/null").stdout
    (project.folder / "kept.json").write_text(kept)
    tap = {"api_key": KEY, "project_id": 1, "initial_since": SINCE, "region": "self_hosted", "custom_base_url": box.url, "data_type": "events"}
    (project.folder / "tap.json").write_text(json.dumps(tap))
    alone = project.run(f"chmod 600 tap.json; {TAP} --config tap.json --state kept.json >rows.singer")
    report.check("the tap understands what Meltano keeps", '"singer_state"' in kept and "events: 0 rows" in alone.stdout, kept[:200] + alone.stdout[-800:])

    box.ingest([{"event": "later", "distinct_id": "d", "timestamp": iso(now_us() - DAY_US)}])
    box.fault("auth_401", body="created_at LIMIT")
    failed = project.run("meltano run tap-posthog target-parquet")
    box.forget()
    report.check("an extractor that fails", failed.returncode == 1 and "Extractor failed" in failed.stdout, failed.stdout[-1500:])
    (project.folder / "file").write_text("")
    failed = project.run("meltano run tap-posthog target-parquet", TARGET_PARQUET_DESTINATION_PATH="file")
    report.check("a loader that fails", failed.returncode == 1 and "Loader failed" in failed.stdout, failed.stdout[-1500:])
    after = project.run("meltano run tap-posthog target-parquet")
    report.check("the run after both", after.returncode == 0 and "events: 1 rows" in after.stdout, after.stdout[-1500:])
    report.same("after both: each row once", project.difference(box))
    whole = project.run("meltano run --full-refresh tap-posthog target-parquet", TARGET_PARQUET_LOAD_METHOD="overwrite")
    report.check("--full-refresh", whole.returncode == 0, whole.stdout[-1500:])
    report.same("--full-refresh: each row once", project.difference(box))


def others(report, project, box):
    """Our tap into another target, and another tap into our target."""
    project.add("loaders", name="target-jsonl", namespace="target_jsonl", pip_url="target-jsonl==0.1.4", config={"destination_path": "jsonl", "do_timestamp_file": False})
    (project.folder / "jsonl").mkdir()
    (project.folder / "sdk").mkdir()
    (project.folder / "sdk" / "tap.py").write_text(SDK_TAP)
    wrapper = project.folder / "tap-numbers"
    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} "{project.folder}/sdk/tap.py" "$@"\n')
    wrapper.chmod(0o755)
    project.add("extractors", name="tap-numbers", namespace="tap_numbers", executable="./tap-numbers", capabilities=["catalog", "discover", "state"])
    added = project.run("meltano install loader target-jsonl && meltano run tap-posthog target-jsonl")
    if not report.check("our tap into target-jsonl", added.returncode == 0, added.stdout[-2500:]):
        return
    names = ("timestamp", "event", "distinct_id", "uuid", "created_at")  # the rest may hold halves of surrogate pairs, which DuckDB refuses
    rows = [json.loads(line) for line in (project.folder / "jsonl" / "events.jsonl").read_text().splitlines()]
    path = project.folder / "names.jsonl"
    path.write_text("".join(json.dumps({name: row[name] for name in names}) + "\n" for row in rows))
    delivered = ("SELECT epoch_us(timestamp::TIMESTAMPTZ) AS timestamp_us, event, distinct_id, uuid::VARCHAR AS uuid, epoch_us(created_at::TIMESTAMPTZ) AS created_us "
                 f"FROM read_json('{path}', format = 'newline_delimited')")
    report.same("target-jsonl: each row once", Difference(Truth(box, SINCE), delivered))
    ran = project.run("meltano run tap-numbers target-parquet && meltano run tap-numbers target-parquet")
    rows = duckdb.sql(f"SELECT count(DISTINCT id), min(name) FROM read_parquet({project.files('numbers')!r})").fetchall()[0] if project.files("numbers") else None
    report.check("a tap of the Singer SDK into our target", ran.returncode == 0 and rows == (100, "n0"), f"{rows} {ran.stdout[-1500:]}")


def main():
    report = Report("meltano")
    against_the_hub(report)
    with Box(events=2000) as box, tempfile.TemporaryDirectory() as wheels, tempfile.TemporaryDirectory() as folder:
        build(wheels, "--compatibility", "linux")
        project = Project(folder, wheels, box)
        our_pair(report, project, box)
        others(report, project, box)
    report.end()


if __name__ == "__main__":
    main()
