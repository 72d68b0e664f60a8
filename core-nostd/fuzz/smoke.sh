#!/usr/bin/env bash
# Runs every fuzz target for some seconds (3 each, or the first argument), as many at once as there
# are processors, then the canary, which must fail. Needs a nightly compiler, and installs
# cargo-fuzz under target/tools if it is not there. Exit 0: all as expected, or skipped with the
# reason printed.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-3}
targets=(frame moldudp64 itch50 iextp deep10 tops16 soupbintcp binaryfile path segment shared
    packing gorilla)
tools=$PWD/../target/tools
export PATH=$tools/bin:$PATH

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "skipped: fuzzing needs a nightly compiler: rustup toolchain install nightly"
    exit 0
fi
if ! cargo +nightly fuzz --version >/dev/null 2>&1; then
    echo "installing cargo-fuzz under target/tools"
    if ! cargo install --quiet --locked --root "$tools" cargo-fuzz@0.13.2; then
        echo "skipped: cargo-fuzz cannot be installed (cargo install cargo-fuzz)"
        exit 0
    fi
fi

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
cargo +nightly fuzz build

# An input that takes 10 s is a loop that does not end. The state of `path` needs long inputs.
one() {
    local options=(-max_total_time="$2" -timeout=10)
    [ "$1" != path ] || options+=(-len_control=0 -max_len=1500)
    cargo +nightly fuzz run "$1" -- "${options[@]}" >"$3/$1" 2>&1
}
export -f one
failed=0
printf '%s\n' "${targets[@]}" |
    xargs -P "$(nproc)" -I{} bash -c "one {} $seconds $logs || touch $logs/{}.failed"
for target in "${targets[@]}"; do
    if [ -e "$logs/$target.failed" ]; then
        cat "$logs/$target"
        echo "fuzz target $target failed: its input is under core-nostd/fuzz/artifacts/$target"
        failed=1
    else
        echo "$target: $(grep -aE '^#[0-9]+.*DONE' "$logs/$target" | tail -1)"
    fi
done
[ $failed -eq 0 ] || exit 1
if one canary 60 "$logs"; then
    echo "the canary did not fail: the fuzzer finds nothing"
    exit 1
fi
if ! grep -q 'canary: an input that is a message was found' "$logs/canary"; then
    cat "$logs/canary"
    echo "the canary failed for another reason than its own"
    exit 1
fi
rm -rf fuzz/artifacts/canary
echo "canary: failed, as it must"
