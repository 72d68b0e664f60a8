#!/usr/bin/env bash
# Runs every fuzz target for some seconds (5 each, or the first argument), then the canary, which
# must fail. Exit 0: all as expected, or skipped with the reason printed.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-5}
targets=(frame moldudp64 itch50 iextp soupbintcp binaryfile packing gorilla)

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "skipped: fuzzing needs a nightly compiler: rustup toolchain install nightly"
    exit 0
fi
if ! cargo +nightly fuzz --version >/dev/null 2>&1; then
    echo "skipped: fuzzing needs cargo-fuzz: cargo install cargo-fuzz"
    exit 0
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo +nightly fuzz build
for target in "${targets[@]}"; do
    if ! cargo +nightly fuzz run "$target" -- -max_total_time="$seconds" >"$log" 2>&1; then
        cat "$log"
        echo "fuzz target $target failed: its input is under fuzz/artifacts/$target"
        exit 1
    fi
    echo "$target: $(grep -aE '^(Done|#[0-9]+.*DONE)' "$log" | tail -1)"
done
if cargo +nightly fuzz run canary -- -max_total_time=60 >"$log" 2>&1; then
    echo "the canary did not fail: the fuzzer finds nothing"
    exit 1
fi
if ! grep -q 'canary: an input that is a message was found' "$log"; then
    cat "$log"
    echo "the canary failed for another reason than its own"
    exit 1
fi
rm -rf fuzz/artifacts/canary
echo "canary: failed, as it must"
