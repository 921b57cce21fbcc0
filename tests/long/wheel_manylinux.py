"""The wheel for every Linux with glibc 2.17 or newer: built by zig (PyPI), looked into, installed into an empty environment, and run.

    python tests/long/wheel_manylinux.py [FOLDER]       FOLDER keeps the wheel

About five minutes on two cores: everything is compiled once more, for the older glibc. Needs objdump;
installs maturin and zig itself, into an environment of its own.
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import venv

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "second"))
from box import Report  # noqa: E402
import python_wheel  # noqa: E402

GLIBC = (2, 17)


def versions(program):
    """The versions of glibc whose symbols a program asks for."""
    told = subprocess.run(["objdump", "-T", program], capture_output=True, text=True, check=True).stdout
    return sorted({tuple(map(int, version.split("."))) for version in re.findall(r"GLIBC_([\d.]+)", told)})


def main():
    report = Report("wheel_manylinux")
    with tempfile.TemporaryDirectory() as folder:
        tools = os.path.join(folder, "tools")
        venv.create(tools, with_pip=True)
        subprocess.run([f"{tools}/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "maturin[zig]==1.16.0"], check=True)
        out = sys.argv[1] if len(sys.argv) > 1 else os.path.join(folder, "wheel")
        wheel, _ = python_wheel.build(out, "--zig", "--compatibility", "manylinux2014", maturin=pathlib.Path(tools, "bin", "maturin"))
        report.check("its name says manylinux2014", "manylinux2014_x86_64" in wheel.name or "manylinux_2_17_x86_64" in wheel.name, wheel.name)
        report.check("at most 7 MB", wheel.stat().st_size <= 7e6, f"{wheel.stat().st_size / 1e6:.1f} MB")
        environment = python_wheel.examine(report, wheel, os.path.join(folder, "environment"))
        for name in ("tap-posthog", "target-parquet"):
            asked = versions(environment.folder / "bin" / name)
            report.check(f"{name} asks for no glibc newer than 2.17", asked and asked[-1] <= GLIBC, asked[-1:])
    report.end()


if __name__ == "__main__":
    main()
