#!/usr/bin/env bash
# Proves that the loom models can fail: weakens each memory ordering of the structures they are about in
# turn, in a copy of the tree, and runs the models, of which one must fail. `--list` shows what would be
# weakened; names of files as there look at those alone. Some twenty minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD copy=target/weakened
source=core-nostd/src

# File, its models.
subjects=(
    "ring/spsc.rs loom_rings" "ring/mpmc.rs loom_rings" "ring/shared.rs loom_rings"
    "ring/broadcast.rs loom_broadcast" "node_pool.rs loom_pool" "segment/cell.rs loom_cell"
    "skiplist/node.rs loom_skiplist" "skiplist/reader.rs loom_skiplist" "skiplist/writer.rs loom_skiplist"
)
# Those that may be weaker, and why.
spared() {
    case "$1 $2" in
        "skiplist/reader.rs fence(Acquire);"*) echo "comes behind the fence of the leaf that was read, in node.rs" ;;
        "node_pool.rs "*"free_from(self.head.load"*) echo "a figure for a page, of some moment" ;;
        "node_pool.rs "*"exchange(head, emptier, "*) echo "the head was loaded with acquire, or by an exchange that failed" ;;
        *) return 1 ;;
    esac
}
# Lines of code with an ordering that can be weakened.
orderings() {
    sed -n '/^#\[cfg(all(test/q; =; p' "$source/$1" | paste - - |
        grep -E '\b(Acquire|Release|AcqRel)\b' | grep -vE '^[0-9]+\s+(//|(pub )?use )' || true
}

if [ "${1:-}" = --list ]; then
    for subject in "${subjects[@]}"; do
        orderings "${subject% *}" | sed "s|^|${subject% *} |"
    done
    exit
fi

rm -rf "$copy"
mkdir -p "$copy"
git ls-files -z | xargs -0 cp --parents -t "$copy" 2>/dev/null
cd "$copy"
export RUSTFLAGS="--cfg loom"
models() {
    cargo test --quiet --target-dir "$root/target/loom-weakened" -p wiretape-core --release --locked \
        --test "$1" "${@:2}" >"$root/target/weakened.log" 2>&1
}

caught=0 survived=0
for subject in "${subjects[@]}"; do
    read -r file test <<<"$subject"
    [[ $# -eq 0 || " $* " == *" $file "* ]] || continue
    cp "$source/$file" "$root/target/weakened.rs"
    models "$test" || { cat "$root/target/weakened.log"; echo "$test fails as it is" >&2; exit 1; }
    while read -r line text; do
        [ -n "$line" ] || continue
        if reason=$(spared "$file" "$text"); then
            echo "spared    $file:$line  $text  ($reason)"
            continue
        fi
        # A fence is left out, any other ordering is relaxed.
        sed -i -E "${line}s/fence\([A-Za-z:]+\);//; ${line}s/\b(Acquire|Release|AcqRel)\b/Relaxed/" "$source/$file"
        models "$test" --no-run || { cat "$root/target/weakened.log"; exit 1; }
        if models "$test"; then
            echo "SURVIVED  $file:$line  $text"
            survived=$((survived + 1))
        else
            echo "caught    $file:$line  $text"
            caught=$((caught + 1))
        fi
        cp "$root/target/weakened.rs" "$source/$file"
    done < <(orderings "$file")
done
rm -rf "$root/$copy" "$root/target/weakened.rs"
echo "$caught caught, $survived survived"
[ "$survived" -eq 0 ]
