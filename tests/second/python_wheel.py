#!/usr/bin/env python3
"""The wheel, built from the release programs by maturin and installed into an empty environment: what is in it, both programs on
PATH, the module that finds them, and nothing left behind when it is removed. TAP_POSTHOG names the program that it must hold."""
import filecmp
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile

from box import ROOT, Report, TAP, TARGET

PROJECT = ROOT / "integrations" / "python"
IN_IT = {"tap_posthog/__init__.py", "tap_posthog/__main__.py"}


def build(folder, *options, maturin=pathlib.Path(sys.executable).with_name("maturin")):
    """The wheel that maturin makes, and what it said. With everything built by cargo it packs: seconds. WHEEL names one that is there."""
    if "WHEEL" in os.environ:
        return pathlib.Path(shutil.copy(os.environ["WHEEL"], folder)), ""
    done = subprocess.run([maturin, "build", "--release", "--locked", "--out", folder, *options], cwd=PROJECT, capture_output=True, text=True,
                          env={**os.environ, "PATH": f"{maturin.parent}{os.pathsep}{os.environ['PATH']}"})
    wheels = sorted(pathlib.Path(folder).glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise SystemExit(f"maturin: exit {done.returncode}, {wheels}\n{done.stdout}{done.stderr}")
    return wheels[0], done.stderr


class Environment:
    """An empty virtual environment. Programs see nothing of the environment outside."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        venv.create(folder, with_pip=True)
        self.empty = self.files()

    def files(self):
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}

    def run(self, *command, text=None, cwd=None, **more):
        return subprocess.run(command, **({"input": text} if text else {"stdin": subprocess.DEVNULL}), capture_output=True, text=True, cwd=cwd or self.folder,
                              env={"PATH": f"{self.folder}/bin:/usr/bin:/bin", "HOME": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1", **more})

    def pip(self, *arguments):
        """pip as it is set up on this machine."""
        set_up = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.lower().endswith("_proxy")}
        return self.run("python", "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments, **set_up)


def examine(report, wheel, folder):
    """What must hold for a wheel, wherever it was built."""
    mb = wheel.stat().st_size / 1e6
    report.check("at most 8 MB", mb <= 8, f"{wheel.name}: {mb:.1f} MB")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        version = wheel.name.split("-")[1]
        scripts = {f"tap_posthog-{version}.data/scripts/{name}" for name in ("tap-posthog", "target-parquet")}
        more = {name for name in names - scripts if not name.startswith((f"tap_posthog-{version}.dist-info/", "components/posthog.singer_extractor/", "tap_posthog/"))}
        report.check("both programs and the module, and nothing else", scripts | IN_IT <= names and not more, more or len(names))
        metadata = archive.read(f"tap_posthog-{version}.dist-info/METADATA").decode()
        report.check("name, licence and description", all(f"\n{line}" in metadata for line in ("Name: tap-posthog\n", "License: MIT\n", "Summary: A Singer tap")), metadata[:600])
    environment = Environment(folder)
    installed = environment.pip("install", "--no-index", wheel)
    report.check("installs without anything else", installed.returncode == 0, installed.stderr)
    for name in ("tap-posthog", "target-parquet"):
        said = environment.run(name, "--version")
        report.check(f"{name} runs", said.returncode == 0 and said.stdout.strip().endswith(version), f"{said.stdout}{said.stderr}")
        path = environment.run("python", "-c", f"import tap_posthog; print(tap_posthog.program('{name}'))").stdout.strip()
        report.check(f"the module finds {name}", path == f"{environment.folder}/bin/{name}", path)
    said = environment.run("python", "-m", "tap_posthog", "--version").stdout
    report.check("python -m tap_posthog is the tap", said == environment.run("tap-posthog", "--version").stdout and said, said)
    lines = '{"type":"SCHEMA","stream":"s","schema":{"properties":{"n":{"type":"integer"}}},"key_properties":[]}\n{"type":"RECORD","stream":"s","record":{"n":1}}\n{"type":"STATE","value":{"a":1}}\n'
    wrote = environment.run("target-parquet", text=lines)
    report.check("target-parquet writes a file", wrote.stdout.strip() == '{"a":1}' and list(environment.folder.glob("output/s/*.parquet")), wrote.stderr)
    return environment


def main():
    report = Report("wheel")
    with tempfile.TemporaryDirectory() as folder:
        wheel, said = build(folder, "--compatibility", "linux")
        report.check("nothing is compiled again", "Compiling" not in said, said[-600:])
        environment = examine(report, wheel, os.path.join(folder, "environment"))
        for name, built in (("tap-posthog", TAP), ("target-parquet", TARGET)):
            report.check(f"{name} is the one that was tested", filecmp.cmp(environment.folder / "bin" / name, built, shallow=False), built)
        environment.pip("uninstall", "--yes", "tap-posthog")
        left = {path for path in environment.files() - environment.empty if not path.startswith("output")}
        report.check("no file is left when it is removed", not left, left)
    report.end()


if __name__ == "__main__":
    main()
