#!/usr/bin/env bash
# See `usage`.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
copy=$root/target/weakened
log=$root/target/weakened.log
whole=$root/target/weakened.rs
source=core-nostd/src

usage() {
    cat <<'END'
usage: core-nostd/weaken.sh [--list | FILE...]

Proves that the loom models can fail. In a copy of the tree, each memory ordering of the structures that
they are about is weakened in turn (a fence left out, any other relaxed) and the models are run: one
of them must fail. Twenty to thirty minutes for all; FILEs, as --list names them, are looked at alone.

Exit codes: 0 each was noticed, 1 not each, or the models fail as they are, 2 wrong usage.
END
}

# File, its models.
subjects=(
    "ring/spsc.rs loom_rings" "ring/mpmc.rs loom_rings" "ring/shared.rs loom_rings"
    "ring/broadcast.rs loom_broadcast" "ring/wake.rs loom_broadcast"
    "node_pool.rs loom_pool" "segment/cell.rs loom_cell"
    "segment/header.rs loom_segment" "segment/feeds.rs loom_segment" "histogram.rs loom_segment"
    "skiplist/node.rs loom_skiplist" "skiplist/reader.rs loom_skiplist" "skiplist/writer.rs loom_skiplist"
)
# Those that may be weaker, and why.
spared() {
    case "$1 $2" in
        "skiplist/reader.rs fence(Acquire);"*) echo "comes behind the fence of the leaf that was read, in node.rs" ;;
        "ring/spsc.rs let position = read.load("*) echo "loads before it that stores after it must not reach: loom shows no load buffering" ;;
        "node_pool.rs "*"free_from(self.head.load"*) echo "a figure for a page, of some moment" ;;
        "node_pool.rs "*"exchange(head, emptier, "*) echo "the head was loaded with acquire, or by an exchange that failed" ;;
        *) return 1 ;;
    esac
}
# Lines of code with an ordering that can be weakened: number, text.
orderings() {
    sed -n '/^#\[cfg(all(test/q; =; p' "$source/$1" | paste - - |
        grep -E '\b(Acquire|Release|AcqRel)\b' | grep -vE '^[0-9]+\s+(//|(pub )?use )'
}

case "${1:-}" in
    -h | --help)
        usage
        exit
        ;;
    --list)
        for subject in "${subjects[@]}"; do
            orderings "${subject% *}" | sed "s|^|${subject% *} |"
        done
        exit
        ;;
esac
chosen=()
for subject in "${subjects[@]}"; do
    [[ $# -gt 0 && " $* " != *" ${subject% *} "* ]] || chosen+=("$subject")
done
if [ $# -gt 0 ] && [ ${#chosen[@]} -ne $# ]; then
    echo "weaken.sh: $* is not what --list names" >&2
    exit 2
fi

rm -rf "$copy"
trap 'rm -rf "$copy" "$log" "$whole"' EXIT
mkdir -p "$copy"
git ls-files -z | xargs -0 cp --parents -t "$copy"
cd "$copy"
export RUSTFLAGS="--cfg loom"
models() {
    cargo test --quiet --target-dir "$root/target/loom-weakened" -p wiretape-core --release --locked \
        --test "$1" "${@:2}" >"$log" 2>&1
}
stop() {
    cat "$log" >&2
    echo "weaken.sh: $1" >&2
    exit 1
}

caught=0 survived=0
for subject in "${chosen[@]}"; do
    read -r file test <<<"$subject"
    models "$test" || stop "$test fails as it is"
    # Not the tree's own, which may be edited meanwhile: its lines would have other numbers.
    cp "$source/$file" "$whole"
    while read -r line text; do
        if reason=$(spared "$file" "$text"); then
            echo "spared    $file:$line  $text  ($reason)"
            continue
        fi
        sed -i -E "${line}s/fence\([A-Za-z:]+\);//; ${line}s/\b(Acquire|Release|AcqRel)\b/Relaxed/" "$source/$file"
        models "$test" --no-run || stop "$file does not compile with line $line weakened"
        if models "$test"; then
            echo "SURVIVED  $file:$line  $text"
            survived=$((survived + 1))
        else
            echo "caught    $file:$line  $text"
            caught=$((caught + 1))
        fi
        cp "$whole" "$source/$file"
    done < <(orderings "$file")
done
echo "$caught caught, $survived survived"
[ "$caught" -gt 0 ] && [ "$survived" -eq 0 ]
