#!/usr/bin/env bash
# See `usage`.
set -euo pipefail
cd "$(dirname "$0")/.."
target=x86_64-unknown-linux-gnu

usage() {
    cat <<'END'
usage: core-nostd/sanitize.sh [--core]

Runs tests under AddressSanitizer (those of core, the unit tests of capture and host) and ThreadSanitizer
(core's unit tests, its rings between threads and between processes), as far as there is a toolchain for
it: a nightly compiler, and for ThreadSanitizer its rust-src, since the standard library must be built
for it. With --core core alone, under AddressSanitizer.

Exit codes: 0 no report, or skipped with the reason printed; 2 wrong usage; else that of the tests.
END
}

case "${1:-}" in
    "" | --core) ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
esac

skip() {
    echo "skipped: $1"
    exit 0
}
[ "$(uname -m)" = x86_64 ] || skip "the sanitizers are run on x86-64 alone"
cargo +nightly --version >/dev/null 2>&1 ||
    skip "sanitizers need a nightly compiler: rustup toolchain install nightly"

# Name of the sanitizer, cargo's arguments.
tests() {
    local sanitizer=$1
    shift
    echo "$sanitizer: $*"
    RUSTFLAGS=-Zsanitizer=$sanitizer CARGO_TARGET_DIR=target/sanitize-$sanitizer \
        cargo +nightly test --quiet --locked --target $target "$@"
}

tests address -p wiretape-core --lib --tests
[ "${1:-}" != --core ] || exit 0
# Tests of the AF_XDP rings leak on purpose, to have memory that lives as long as a mapping.
ASAN_OPTIONS=detect_leaks=0 tests address -p wiretape-capture -p wiretape-host --lib
[ -d "$(rustc +nightly --print sysroot)/lib/rustlib/src/rust/library" ] ||
    skip "ThreadSanitizer needs the standard library's source: rustup component add rust-src --toolchain nightly"
tests thread -Zbuild-std -p wiretape-core --lib --test rings --test broadcast --test processes
