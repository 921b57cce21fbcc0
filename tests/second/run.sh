#!/usr/bin/env bash
# The second tier: both release binaries against a PostHog stand-in on a real ClickHouse, and files read by others' readers.
#
#   tests/second/run.sh [NAME...]       only the checks with these names (box_pipe, target_readers, ...)
#
# TAP_POSTHOG and TARGET_PARQUET name the binaries (default: target/release). POSTHOG_BOX is the folder of posthog-box
# (default: ../shared/posthog-box); without it the checks that need it are skipped. VENV is where the Python environment is
# made; with ONLY_PREPARE set, nothing else is done. JOBS checks run side by side (default: 2). Ends with `N passed, N failed`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

JOBS="${JOBS:-2}"
VENV="${VENV:-${TMPDIR:-/tmp}/tap-posthog-second}"
POSTHOG_BOX="${POSTHOG_BOX:-../shared/posthog-box}"
export TAP_POSTHOG="${TAP_POSTHOG:-$PWD/target/release/tap-posthog}"
export TARGET_PARQUET="${TARGET_PARQUET:-$PWD/target/release/target-parquet}"
export PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
python="${PYTHON:-python3.11}"
command -v "$python" >/dev/null || python=python3

work="$(mktemp -d)"
started=()
declare -A running=()
end() {
    status=$?
    trap - EXIT INT TERM
    for pid in "${!running[@]}"; do
        kill -TERM "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    for pid in "${started[@]}"; do
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    rm -rf "$work"
    exit "$status"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
export TMPDIR="$work"

heading() { printf '\n== %s (%d s)\n' "$1" "$SECONDS"; }

heading "Python environment"
[ -x "$VENV/bin/python" ] || "$python" -m venv "$VENV"
"$VENV/bin/pip" install --quiet --disable-pip-version-check -r tests/second/requirements.txt
# Spark is large and needs Java.
if command -v java >/dev/null; then
    "$VENV/bin/pip" install --quiet --disable-pip-version-check pyspark==4.3.0 || echo "pyspark does not install: Spark is not tested"
fi
[ -x "$VENV-meltano/bin/python" ] || "$python" -m venv "$VENV-meltano"
"$VENV-meltano/bin/pip" install --quiet --disable-pip-version-check -r tests/second/requirements-meltano.txt
box=yes
if [ -d "$POSTHOG_BOX" ]; then
    POSTHOG_BOX="$(cd "$POSTHOG_BOX" && pwd)"
    export POSTHOG_BOX BOX_VENV="$VENV"
    VENV="$VENV" PYTHON="$python" "$POSTHOG_BOX/setup.sh"
else
    box=no
    echo "posthog-box is not at $POSTHOG_BOX: the checks that need it are skipped"
fi

[ -z "${ONLY_PREPARE:-}" ] || exit 0

# The wheel is built from the same folder as the programs, and for a moment they are not there.
mkdir "$work/bin"
cp "$TAP_POSTHOG" "$TARGET_PARQUET" "$work/bin/"
TAP_POSTHOG="$work/bin/$(basename "$TAP_POSTHOG")" TARGET_PARQUET="$work/bin/$(basename "$TARGET_PARQUET")"

passed=0 failed=0 skipped=0 wrong=()

# Runs a check beside the others that run, at most $JOBS at a time. What it says is printed when it ends.
check() {
    local name=$1
    shift
    while [ "${#running[@]}" -ge "$JOBS" ]; do settle; done
    "$@" >"$work/said-$name" 2>&1 &
    running[$!]=$name
}

# Waits for a check to end, and adds its closing line up. A check that ends badly has failed, whatever it counted.
settle() {
    local pid status=0 name line
    wait -n -p pid "${!running[@]}" || status=$?
    name=${running[$pid]}
    unset "running[$pid]"
    heading "$name"
    cat "$work/said-$name"
    line="$(grep -E '^([A-Za-z_]+: )?[0-9]+ passed, [0-9]+ failed' "$work/said-$name" | tail -n 1 || true)"
    if [[ "$line" =~ ([0-9]+)\ passed,\ ([0-9]+)\ failed ]]; then
        passed=$((passed + BASH_REMATCH[1]))
        failed=$((failed + BASH_REMATCH[2]))
        if [ "$status" -ne 0 ] && [ "${BASH_REMATCH[2]}" -eq 0 ]; then failed=$((failed + 1)); fi
    elif [ "$status" -eq 0 ]; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
    fi
    if [ "$status" -ne 0 ]; then wrong+=("$name (exit $status)"); fi
}

# Starts a box for checks that do not start their own; sets `url`.
start_box() {
    local log="$work/box-$1.log" zone=$2
    (cd "$POSTHOG_BOX" && PYTHONPATH="$POSTHOG_BOX" exec "$VENV/bin/python" -m posthog_box --port 0 --events 1000 --timezone "$zone" --data "$work/data-$1" \
        --rate-limits off --concurrency 0 --budget-gb-per-hour 0) >"$log" 2>&1 &
    started+=($!)
    url=
    for _ in $(seq 600); do
        url="$(grep -oE 'http://127\.0\.0\.1:[0-9]+' "$log" | head -n 1 || true)"
        if [ -n "$url" ]; then return; fi
        sleep 0.2
    done
    cat "$log"
    return 1
}

wanted() {
    [ "${#names[@]}" -eq 0 ] || [[ " ${names[*]} " == *" $1 "* ]]
}

names=("$@")
for script in tests/second/*.py; do
    name="$(basename "$script" .py)"
    wanted "$name" || continue
    case "$name" in
        box) ;; # a module
        fake_vs_box)
            if [ "$box" = no ]; then skipped=$((skipped + 1)); continue; fi
            start_box utc UTC
            utc=$url
            start_box la America/Los_Angeles
            check "$name" "$VENV/bin/python" "$script" "UTC=$utc" "America/Los_Angeles=$url"
            ;;
        box_*)
            if [ "$box" = no ]; then skipped=$((skipped + 1)); continue; fi
            check "$name" "$VENV/bin/python" "$script"
            ;;
        *)
            check "$name" "$VENV/bin/python" "$script"
            ;;
    esac
done
while [ "${#running[@]}" -gt 0 ]; do settle; done

heading "second tier"
if [ "${#wrong[@]}" -gt 0 ]; then echo "failed: ${wrong[*]}"; fi
if [ "$skipped" -gt 0 ]; then echo "$passed passed, $failed failed, $skipped skipped"; else echo "$passed passed, $failed failed"; fi
[ "$failed" -eq 0 ] && [ "${#wrong[@]}" -eq 0 ]
