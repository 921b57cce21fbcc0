"""Every stream that the box has, through the target: each record valid against its SCHEMA by an independent validator, each
row read back, any subset selected, and keys that may read little.

    python tests/second/box_streams.py
"""
import collections
import json
import pathlib
import subprocess
import tempfile

import duckdb
import jsonschema

from box import Box, Report, SINCE, TAP, TARGET

BASE = {"project_id": 1, "region": "self_hosted", "initial_since": SINCE, "requests_per_minute": 100_000, "requests_per_hour": 1_000_000}


class Project:
    """The tap and the target on a box, in a folder."""

    def __init__(self, box, folder):
        self.box, self.folder = box, pathlib.Path(folder)

    def config(self, key="phx_box_full", **settings):
        path = self.folder / "config.json"
        path.write_text(json.dumps({**BASE, "api_key": key, "custom_base_url": self.box.url, **settings}))
        path.chmod(0o600)
        return path

    def tap(self, *arguments, **settings):
        return subprocess.run([TAP, "--config", self.config(**settings), *arguments], capture_output=True, text=True, cwd=self.folder)

    def catalog(self, streams=None, **settings):
        """The discovered catalog with these streams selected, and what was said."""
        run = self.tap("--discover", **settings)
        catalog = json.loads(run.stdout)
        for stream in catalog["streams"]:
            chosen = streams is None or stream["tap_stream_id"] in streams
            for entry in stream["metadata"]:
                if not entry["breadcrumb"]:
                    entry["metadata"]["selected"] = chosen
        path = self.folder / "catalog.json"
        path.write_text(json.dumps(catalog))
        return path, [stream["tap_stream_id"] for stream in catalog["streams"]], run


def messages(text):
    schemas, records = {}, collections.defaultdict(list)
    for line in text.splitlines():
        message = json.loads(line)
        if message["type"] == "SCHEMA":
            schemas[message["stream"]] = message
        elif message["type"] == "RECORD":
            records[message["stream"]].append(message["record"])
    return schemas, records


def every_stream(report, project):
    catalog, names, _ = project.catalog()
    run = project.tap("--catalog", catalog)
    report.check("all streams: ends well", run.returncode == 0, run.stderr[-500:])
    schemas, records = messages(run.stdout)
    out = project.folder / "out"
    config = project.folder / "target.json"
    config.write_text(json.dumps({"destination_path": str(out)}))
    target = subprocess.run([TARGET, "--config", config], input=run.stdout, capture_output=True, text=True, cwd=project.folder)
    report.check("all streams: the target ends well", target.returncode == 0, target.stderr[-500:])
    report.check("all streams: as discovered", sorted(schemas) == sorted(names), set(names) ^ set(schemas))
    for name in sorted(schemas):
        schema, keys = schemas[name]["schema"], schemas[name]["key_properties"]
        validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
        wrong = [error.message[:200] for record in records[name] for error in validator.iter_errors(record)]
        report.check(f"{name}: {len(records[name])} records are valid", not wrong, wrong[:3])
        distinct = {json.dumps([record[key] for key in keys]) for record in records[name]}
        report.check(f"{name}: keys are unique", len(distinct) == len(records[name]), f"{len(distinct)} keys")
        report.check(f"{name}: no enum", '"enum"' not in json.dumps(schema))
        files = sorted(str(path) for path in (out / name).rglob("*.parquet"))
        rows = duckdb.execute("SELECT count() FROM read_parquet(?, union_by_name = true)", [files]).fetchone()[0] if files else 0
        report.check(f"{name}: rows read back", rows == len(records[name]), f"{rows} rows")
        bare = {name for record in records[name] for name in record} - set(schema["properties"])
        report.check(f"{name}: no field outside of its SCHEMA", not bare, bare)
    secret = [word for word in ("phc_", "phs_", "api_token", "secret") if records["projects"] and word in json.dumps(records["projects"])]
    report.check("projects: no token", not secret, secret)


def subsets(report, project):
    for chosen in (["cohorts"], ["persons", "events"], ["sessions", "surveys", "groups"], []):
        catalog, _, _ = project.catalog(chosen)
        run = project.tap("--catalog", catalog)
        schemas, _ = messages(run.stdout)
        report.check(f"only {chosen}", run.returncode == 0 and sorted(schemas) == sorted(chosen), (sorted(schemas), run.stderr[-300:]))
    catalog, _, _ = project.catalog(["cohorts"])
    parsed = json.loads(catalog.read_text())
    for stream in parsed["streams"]:
        for entry in stream["metadata"]:
            if stream["tap_stream_id"] == "cohorts" and entry["breadcrumb"] == ["properties", "filters"]:
                entry["metadata"]["selected"] = False
    catalog.write_text(json.dumps(parsed))
    schemas, records = messages(project.tap("--catalog", catalog).stdout)
    gone = "filters" not in schemas["cohorts"]["schema"]["properties"] and not any("filters" in record for record in records["cohorts"])
    report.check("a deselected field vanishes", gone and records["cohorts"])


TABLES = {"events", "persons", "groups", "person_distinct_ids", "sessions", "cohort_people"}
TWO_SCOPES = {"phx_box_cohorts": (["query:read", "cohort:read"], {*TABLES, "cohorts"}),
              "phx_box_flags": (["query:read", "feature_flag:read"], {*TABLES, "feature_flags"}),
              "phx_box_lists": (["annotation:read", "survey:read"], {"annotations", "surveys"})}


def two_scopes(report, project):
    """The streams of two families and no other, the others named once, and a run of what was discovered."""
    _, every, _ = project.catalog()
    for key, (scopes, families) in TWO_SCOPES.items():
        catalog, names, run = project.catalog(key=key)
        report.check(f"{scopes}: lists its two families", set(names) == families, names)
        warned = [line for line in run.stderr.splitlines() if "left out" in line]
        named = sorted(stream for stream in every for line in warned if f" {stream} (" in line)
        report.check(f"{scopes}: one line names each other stream once", len(warned) == 1 and named == sorted(set(every) - families), warned)
        run = project.tap("--catalog", catalog, key=key)
        schemas, records = messages(run.stdout)
        report.check(f"{scopes}: syncs", run.returncode == 0 and set(schemas) == families, run.stderr[-500:] if run.returncode else f"{sum(map(len, records.values()))} records")
        empty = [stream for stream in families if not records[stream]]
        report.check(f"{scopes}: records of each stream", not empty, empty)


def narrow_keys(report, project):
    for key, family in [("phx_box_query_only", TABLES), ("phx_box_no_query", {"insights"})]:
        _, names, run = project.catalog(key=key)
        report.check(f"{key}: its family and no other", names and set(names) <= family, names)
        warned = [line for line in run.stderr.splitlines() if "left out" in line]
        report.check(f"{key}: what is left out is said once", len(warned) == 1, warned)


def main():
    report = Report("box_streams")
    with Box(5_000, keys={key: scopes for key, (scopes, _) in TWO_SCOPES.items()}) as box, tempfile.TemporaryDirectory() as folder:
        project = Project(box, folder)
        every_stream(report, project)
        subsets(report, project)
        narrow_keys(report, project)
        two_scopes(report, project)
    report.end()


if __name__ == "__main__":
    main()
