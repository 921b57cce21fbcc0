"""The driver of `posthog.singer_extractor` in Osiris: it starts tap-posthog and target-parquet, and hands on what they wrote.

What is read, when a request is repeated, and what a state means is the programs' business. Here are only the shapes of Osiris.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import subprocess
import tempfile

from tap_posthog import program

OWN = ("folder", "result", "target", "component", "connection", "resolved_connection")  # what is not a setting of the tap
ENDED_EARLY = 75  # by its own choice (a budget, a limit of time): what came is kept, the next run continues
LIMIT_OF_DETAIL = 2000


class Driver:
    """One step that reads a PostHog project."""

    def run(self, *, step_id, config, inputs=None, ctx=None):
        """New rows go into the Parquet files of `folder`, which holds the state, too. `df` describes the files, or has the new rows."""
        if config.get("result") == "rows" and not config.get("data_type"):
            raise ValueError("`result: rows` hands on one stream: name it with `data_type`, or use `result: files`")
        folder = pathlib.Path(config.get("folder") or _artifacts(ctx, None) / "posthog").absolute()
        folder.mkdir(parents=True, exist_ok=True)
        before = _files(folder)
        with _settings(settings(config)) as tap, _settings({**(config.get("target") or {}), "destination_path": str(folder)}) as target:
            _load(tap, target, _artifacts(ctx, folder))
        new = {stream: sorted(files - before.get(stream, set())) for stream, files in _files(folder).items()}
        found, rows = _rows(new) if config.get("result") == "rows" else _described(folder, new)
        if hasattr(ctx, "log_metric"):
            ctx.log_metric("rows_read", rows, step=step_id)
        return {"df": found}

    def discover(self, *, config, ctx=None):  # noqa: ARG002, the command hands on an object that is none
        """The streams of the project. The fingerprint is that of the resources alone, so that it stays while they do."""
        with _settings(settings(config)) as (path, fd):
            catalog = json.loads(_say([program(), "--config", path, "--discover"], [fd]))
        resources = sorted((_resource(stream) for stream in catalog["streams"]), key=lambda resource: resource["name"])
        digest = hashlib.sha256(json.dumps(resources, sort_keys=True).encode()).hexdigest()
        return {"discovered_at": catalog["discovered_at"], "resources": resources, "fingerprint": f"sha256:{digest}"}

    def doctor(self, *, config, timeout=2.0, ctx=None):  # noqa: ARG002
        """Whether a run can work: (True or False, latency, category and message)."""
        with _settings(settings(config)) as (path, fd):
            done = subprocess.run([program(), "--config", path, "--doctor", "--doctor-timeout", str(max(1, round(timeout)))],
                                  stdin=subprocess.DEVNULL, capture_output=True, text=True, pass_fds=[fd])
        said = json.loads(done.stdout)
        return said["status"] == "healthy", {name: said[name] for name in ("latency_ms", "category", "message")}


def settings(config):
    """The settings of the tap: those of the step over those of the connection. A connection calls the key `key`, or `api_key`."""
    given = {**(config.get("resolved_connection") or {}), **{name: value for name, value in config.items() if name not in OWN}}
    given = {name: value for name, value in given.items() if value is not None and name != "default" and not name.startswith("_")}
    if "key" in given:
        given["api_key"] = given.pop("key")
    return given


@contextlib.contextmanager
def _settings(values):
    """A settings file without a name: a path and the descriptor that a program needs to read it. Nothing stays after a kill."""
    with tempfile.TemporaryFile("w+") as file:
        json.dump(values, file)
        file.flush()
        file.seek(0)
        yield f"/dev/fd/{file.fileno()}", file.fileno()


def _artifacts(ctx, otherwise):
    """Where this step may write: `output_dir` of the local runner, `artifacts_dir` of the sandbox."""
    for path in (getattr(ctx, "output_dir", None), getattr(ctx, "artifacts_dir", None), otherwise):
        if path is not None:
            return pathlib.Path(path)
    raise ValueError("there is no folder to write into: set `folder`")


def _load(tap, target, logs):
    """Runs both programs, from the state that is committed in the folder. What they say is kept beside the other artifacts."""
    command = [program("target-parquet"), "run", "--config", target[0], "--", program(), "--config", tap[0]]
    with open(logs / "posthog.log", "w+") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, pass_fds=[tap[1], target[1]])
        try:
            code = process.wait()
        finally:
            _end(process)
        log.seek(0)
        if code not in (0, ENDED_EARLY):
            raise RuntimeError(_why("target-parquet run", code, log.read()))


def _end(process):
    """Ends a run when its step is broken off. The run ends the tap, and keeps what is committed."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()
        process.wait()


def _files(folder):
    """The files that readers see, by stream."""
    streams = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(("_", ".")))
    return {path.name: {str(file) for file in path.rglob("*.parquet")} for path in streams}


def _count(files):
    import duckdb

    return duckdb.execute("SELECT coalesce(sum(num_rows), 0)::BIGINT FROM parquet_file_metadata(?)", [files]).fetchone()[0] if files else 0


def _described(folder, new):
    """A row for each stream: where its files are, and how many are new. A DuckDB step reads them from there."""
    import pandas

    rows = {stream: _count(files) for stream, files in new.items()}
    told = [{"stream": stream, "files": f"{folder}/{stream}/**/*.parquet", "new_files": len(files), "new_rows": rows[stream]} for stream, files in sorted(new.items())]
    return pandas.DataFrame(told, columns=["stream", "files", "new_files", "new_rows"]), sum(rows.values())


def _rows(new):
    """The new rows themselves, in memory."""
    import duckdb
    import pandas

    files = [file for files in new.values() for file in files]
    found = duckdb.execute("SELECT * FROM read_parquet(?, union_by_name = true)", [files]).df() if files else pandas.DataFrame()
    return found, len(found)


def _resource(stream):
    """A stream of the catalog as Osiris writes a resource."""
    keys = set(stream.get("key_properties") or [])
    fields = [{"name": name, **_type(schema), "primary_key": name in keys} for name, schema in sorted(stream["schema"]["properties"].items())]
    return {"name": stream["tap_stream_id"], "type": "table", "fields": fields}


def _type(schema):
    types = schema.get("type", [])
    types = [types] if isinstance(types, str) else types
    named = [kind for kind in types if kind != "null"]
    return {"type": schema.get("format") or (named[0] if len(named) == 1 else "any"), "nullable": "null" in types or not types}


def _say(command, fds):
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, pass_fds=fds)
    if done.returncode:
        raise RuntimeError(_why(os.path.basename(command[0]), done.returncode, done.stderr))
    return done.stdout


def _why(name, code, log):
    """The errors that the programs told, which name what to do. Programs show no secrets."""
    told = [line.split(" CRITICAL ", 1)[-1] for line in log.splitlines() if " CRITICAL " in line]
    return f"{name} ended with exit code {code}: {'; '.join(told) or (log.splitlines() or ['it said nothing'])[-1]}"[:LIMIT_OF_DETAIL]
