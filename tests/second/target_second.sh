#!/bin/sh
# Second tier for target-parquet: readers and streams that are not ours. Makes its own Python environment (once, in
# TARGET_VENV, default target/second-venv) with duckdb, polars, pyarrow and singer-sdk from PyPI.
# usage: tests/second/target_second.sh      TARGET_PARQUET names the binary (default target/release/target-parquet)
set -eu
cd "$(dirname "$0")/../.."
venv=${TARGET_VENV:-target/second-venv}
if [ ! -x "$venv/bin/python" ]; then python3 -m venv "$venv"; fi
"$venv/bin/python" -c 'import duckdb, polars, pyarrow, pytest, pytz, singer_sdk' 2>/dev/null || "$venv/bin/pip" -q install duckdb polars pyarrow pytest pytz singer-sdk
status=0
for script in target_sdk_streams target_readers; do
  echo "== $script"
  "$venv/bin/python" "tests/second/$script.py" || status=1
done
exit $status
