#!/usr/bin/env bash
# The whole path on this machine: an exchange in one network namespace plays a feed over real
# multicast, an XDP program in another steers it into capture, host answers queries. Leaves
# nothing behind, also when it is interrupted. `make demo` builds and runs it.
set -euo pipefail
cd "$(dirname "$0")/../.."

bin=${WIRETAPE_BIN:-target/release}
seconds=${WIRETAPE_DEMO_SECONDS:-12}
run=wtdemo$$
work=$(mktemp -d "${TMPDIR:-/tmp}/$run.XXXXXX")
segments=/dev/shm/$run
exchange_ns=${run}x
capture_ns=${run}c
bpffs=$work/bpf
group=233.54.12.111:26477
pids=()

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }

clean_up() {
    status=$?
    trap - EXIT INT TERM HUP
    for pid in "${pids[@]:-}"; do
        if [ -n "$pid" ]; then kill -TERM "$pid" 2>/dev/null || true; fi
    done
    for pid in "${pids[@]:-}"; do
        if [ -n "$pid" ]; then wait "$pid" 2>/dev/null || true; fi
    done
    if mountpoint -q "$bpffs" 2>/dev/null; then
        "$bin/wiretape-xdp" unload --interface wtfeed0 --pin-dir "$bpffs" --quiet 2>/dev/null || true
        umount "$bpffs" || true
    fi
    ip netns del "$exchange_ns" 2>/dev/null || true
    ip netns del "$capture_ns" 2>/dev/null || true
    rm -rf "$work" "$segments"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
