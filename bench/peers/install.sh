#!/bin/sh
# Installs the Python packages of requirements.txt into target/oracle. Tests that want them skip
# where that cannot be done, so a machine without Python or network is told, and no failure.
set -eu
cd "$(dirname "$0")/../.."
wanted=bench/peers/requirements.txt
target=target/oracle
cmp -s "$wanted" "$target/installed.txt" && exit 0
if ! command -v python3 >/dev/null 2>&1; then
    echo "oracle: no python3; tests against itch-book will be skipped" >&2
    exit 0
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
rm -rf "$target"
if { python3 -m venv "$target" &&
    "$target/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: \
        --requirement "$wanted"; } >"$log" 2>&1; then
    cp "$wanted" "$target/installed.txt"
else
    echo "oracle: cannot be installed; tests against itch-book will be skipped:" >&2
    tail -n 3 "$log" >&2
fi
