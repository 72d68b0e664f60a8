#!/usr/bin/env bash
# Runs every benchmark and writes docs/benchmarks.md: figures, machine, commands. Arguments go to the
# benchmarks (`--quick`).
set -euo pipefail
cd "$(dirname "$0")/.."
page=docs/benchmarks.md
new=$(mktemp)
trap 'rm -f "$new"' EXIT

benches=(path book wire latency ring pool skiplist simd packing)
{
    echo "# Benchmarks"
    echo
    echo "Written by \`make bench-report\`; do not edit. One run, all contestants of a table in turn."
    echo "Absolute times depend on the machine and on what else runs on it: compare within a table."
    echo "\"times the best peer\" compares the best rounds, \"by medians\" the middle ones. Peers, from"
    echo "\`Cargo.lock\`:"
    for peer in rtrb heapless crossbeam-queue disruptor iceoryx2 crossbeam-skiplist pco itchy; do
        grep -A1 "^name = \"$peer\"" Cargo.lock | sed -n "s/^version = \"\(.*\)\"/- $peer \1/p" | head -1
    done
    sed -n 's/^itch-book==/- itch-book (PyPI) /p' bench/peers/requirements.txt
    echo
    echo "- $(date -u +%Y-%m-%d), $(git describe --always --dirty 2>/dev/null || echo 'no git')"
    echo "- $(lscpu | sed -n 's/^Model name: *//p'), $(nproc) cores," \
        "Linux $(uname -r | cut -d- -f1), $(rustc --version | cut -d' ' -f1,2)"
    [ $# -eq 0 ] || echo "- run with \`$*\`: short rounds, to show that it runs"
} >"$new"

for bench in "${benches[@]}"; do
    [ -e "bench/benches/$bench.rs" ] || continue
    echo "running $bench ..." >&2
    {
        echo
        echo "## $bench"
        echo
        echo "\`cargo bench -p wiretape-bench --features iceoryx2 --bench $bench\`"
        echo
        cargo bench --quiet --locked -p wiretape-bench --features iceoryx2 --bench "$bench" -- \
            --markdown "$@"
    } >>"$new"
done
cp "$new" "$page"
echo "wrote $page" >&2
