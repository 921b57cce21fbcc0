"""A million events, in UTC and in a project with daylight saving: the checks of tests/second/box_pipe.py on more rows.

    python tests/long/box_million.py
"""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "second"))
import box_pipe  # noqa: E402

if __name__ == "__main__":
    sys.argv[1:] = ["--events", "1000000", *sys.argv[1:]]
    box_pipe.main()
