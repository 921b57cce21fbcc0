#!/usr/bin/env python3
"""Writes the definitions for Meltano, its hub and Osiris from the programs' own tables of settings (`--about --format json`).

    python integrations/definitions.py            writes the files anew
    python integrations/definitions.py --check    says which of them differ; exit code 1 if one does

TAP_POSTHOG and TARGET_PARQUET name the programs (default: target/release).
"""
import json
import os
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
RELEASE = HERE.parent / "target" / "release"
HEAD = "# Made by integrations/definitions.py from `{} --about --format json`. Change the table of settings, not this file.\n"

# What the programs do not know of themselves, and the hub asks for.
HUB = {
    "tap-posthog": {
        "label": "PostHog",
        "domain_url": "https://posthog.com/",
        "logo_url": "/assets/logos/extractors/posthog.png",
        "keywords": ["product_analytics", "events", "posthog"],
        "commands": {
            "doctor": {"args": "--config=ENV --doctor", "description": "Say whether a run can work and, if not, what to do"},
            "plan": {"args": "--config=ENV --plan", "description": "Say what a run would read and cost, without reading events"},
        },
        "settings_preamble": "A personal API key with the scope `query:read` is needed. A key that begins with `phc_` cannot read. "
                             "For PostHog on your own servers set `region` to `self_hosted` and `custom_base_url` to its address.\n",
    },
    "target-parquet": {
        "label": "Parquet",
        "domain_url": "https://parquet.apache.org/",
        "logo_url": "/assets/logos/loaders/parquet.png",
        "keywords": ["parquet", "files"],
        "commands": {"last-state": {"args": "--config=ENV state", "description": "Print the last state that is committed in the destination"}},
        "settings_preamble": "A relative `destination_path` lies in the folder that Meltano is run in.\n",
    },
}


def about(variable, name):
    """What a program says of itself. Its environment is empty, so that nothing of this machine comes in."""
    program = os.environ.get(variable, RELEASE / name)
    return json.loads(subprocess.run([program, "--about", "--format", "json"], env={}, check=True, capture_output=True).stdout)


def setting(name, schema, version):
    """A row of the table as Meltano and the hub write it."""
    row = {"name": name, "label": schema["title"], "description": schema["description"], "kind": schema["kind"]}
    if row["kind"] == "password":
        row["kind"] = "string"  # Meltano 4 calls the kind old
    if schema.get("secret"):
        row["sensitive"] = True
    if schema["kind"] == "options":
        row["options"] = [{"label": word.replace("_", " ").replace("-", " ").capitalize(), "value": word} for word in schema["enum"]]
    if "default" in schema and version not in str(schema["default"]):
        row["value"] = schema["default"]
    if "aliases" in schema:
        row["aliases"] = schema["aliases"]
    return row


def definition(told):
    """The definition of a plugin, as the hub keeps it and `meltano add --from-ref` reads it."""
    properties = told["settings"]["properties"]
    made = {
        "name": told["name"],
        "namespace": told["name"].replace("-", "_"),
        "variant": "tap-posthog",
        "description": told["description"],
        "pip_url": "tap-posthog",
        "executable": told["name"],
        "maintenance_status": "beta",
        "quality": "unknown",
        **HUB[told["name"]],
        "capabilities": told["capabilities"],
        "settings": [setting(name, schema, told["version"]) for name, schema in properties.items()],
    }
    if "required" in told["settings"]:
        made["settings_group_validation"] = [told["settings"]["required"]]
    return made


# What a connection says. A step may say the others, and of these the addresses.
CONNECTION = ("api_key", "project_id", "region", "custom_base_url", "ca_file", "proxy", "allow_insecure_http")
OSIRIS = {
    "title": "PostHog (Singer)",
    "description": "Reads a PostHog project into Parquet files, each row once, with tap-posthog and target-parquet",
    "modes": ["extract", "discover"],
    "capabilities": {
        "discover": True, "adHocAnalytics": False, "inMemoryMove": False, "streaming": False, "bulkOperations": True, "transactions": False,
        "partitioning": False, "customTransforms": False,
    },
}
OWN = {
    "folder": {
        "type": "string",
        "description": "Where the files and the state are kept. Outside of the session, so that the next run reads what is new; "
                       "without it, each session reads everything again.",
    },
    "result": {
        "type": "string", "enum": ["files", "rows"], "default": "files",
        "description": "What the step hands on: a table of the streams and their files (recommended: the files stay whatever happens "
                       "downstream), or the new rows of one stream, in memory.",
    },
}
EXAMPLES = [
    {"title": "Everything that is on by default, into a folder that is kept", "config": {"folder": "/data/posthog"}},
    {"title": "Purchases as rows", "config": {"folder": "/data/purchases", "data_type": "events", "event_types": ["purchase"], "result": "rows"}},
]


def field(name, schema, default=True):
    """A row of the table as a field of Osiris. Nulls are left out before the tap sees them."""
    kept = ("enum", "items", "minimum", "maximum", *(("default",) if default else ()))
    kind = next(kind for kind in schema["type"] if kind != "null")
    return {"type": kind, "title": schema["title"], "description": schema["description"], **{word: schema[word] for word in kept if word in schema}}


def component(tap, target):
    """The component's spec. Fields of a connection have no default: Osiris writes defaults into the step, where they win."""
    rows = {name: row for name, row in tap["settings"]["properties"].items() if name != "user_agent"}
    connection = {name: field(name, rows[name], default=False) for name in CONNECTION}
    # The local runner hides only fields with names like `key` in what it keeps of a run; its doctor reads `api_key`.
    key = {"key": connection["api_key"]}
    connection["api_key"] = {**connection["api_key"], "description": "Another name of `key`."}
    files = {name: field(name, row) for name, row in target["settings"]["properties"].items() if name != "destination_path"}
    step = {name: field(name, row) for name, row in rows.items() if name not in CONNECTION}
    secrets = ["/key", *(f"/{name}" for name, row in rows.items() if row.get("secret"))]
    own = {**OWN, "target": {"type": "object", "description": "Settings of target-parquet.", "properties": files, "additionalProperties": False}}
    return {
        "name": "posthog.singer_extractor",
        "version": tap["version"],
        **OSIRIS,
        "configSchema": {"type": "object", "properties": {**key, **connection, **own, **step}, "required": [], "additionalProperties": False},
        "secrets": secrets,
        "x-connection-fields": [
            {"name": name, "override": "forbidden" if name in ("key", "api_key", "project_id", "proxy") else "allowed"} for name in ("key", *CONNECTION)
        ],
        "redaction": {"strategy": "mask", "mask": "****"},
        "examples": EXAMPLES,
        "compatibility": {"requires": ["python>=3.9"], "platforms": ["linux", "docker"]},
        "llmHints": {
            "inputAliases": {"key": ["personal_api_key", "posthog_api_key"], "project_id": ["project"], "initial_since": ["start_date"]},
            "promptGuidance": "Reads PostHog into Parquet files. Give `folder` a path that is kept between runs, so that each run reads what is new. "
                              "The step hands on a table with a row for each stream: its files are read with read_parquet in a duckdb.processor step.",
            "yamlSnippets": ["component: posthog.singer_extractor", "connection: '@posthog.main'", "folder: /data/posthog"],
        },
        "loggingPolicy": {"sensitivePaths": secrets, "metricsToCapture": ["rows_read"]},
        "x-runtime": {
            "driver": "tap_posthog.osiris.Driver",
            "requirements": {"imports": ["tap_posthog", "pandas", "duckdb"], "packages": ["tap-posthog", "pandas", "duckdb"]},
        },
    }


def scalar(value):
    """A text without quotes where nobody can take it for something else; everything else as in JSON, which is YAML, too."""
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z/][A-Za-z0-9_/. -]*[A-Za-z0-9_/.-]", value)
    return value if plain and value.lower() not in ("true", "false", "null", "yes", "no", "on", "off") else json.dumps(value, ensure_ascii=False)


def lines(value):
    """A value as lines of YAML."""
    if not isinstance(value, (dict, list)) or not value:
        return [scalar(value)]
    told = []
    for name, inner in value.items() if isinstance(value, dict) else ((None, inner) for inner in value):
        below = lines(inner)
        if name is None:
            told += [f"- {below[0]}", *(f"  {line}" for line in below[1:])]
        elif isinstance(inner, (dict, list)) and inner:
            told += [f"{name}:", *(f"  {line}" for line in below)]
        else:
            told.append(f"{name}: {below[0]}")
    return told


def written(value, name):
    return HEAD.format(name) + "\n".join(lines(value)) + "\n"


def files():
    """Every file that is made, with its text."""
    tap, target = about("TAP_POSTHOG", "tap-posthog"), about("TARGET_PARQUET", "target-parquet")
    made = {HERE / "meltano" / f"{told['name']}.yml": written(definition(told), told["name"]) for told in (tap, target)}
    spec = HERE / "python" / "src" / "components" / "posthog.singer_extractor" / "spec.yaml"
    return {**made, spec: written(component(tap, target), "tap-posthog")}


def main():
    differ = [path for path, text in files().items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in differ:
            print(f"{path.relative_to(HERE.parent)} differs from what the programs say: python integrations/definitions.py writes it anew")
        sys.exit(bool(differ))
    for path, text in files().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
