#!/usr/bin/env bash
# The whole path on this machine: an exchange in one network namespace plays a simulated feed over
# real multicast, an XDP program in another steers it into capture, and the host answers queries.
# Without the rights for that (root, BPF) the same path runs on the pcap source. Nothing is left
# behind, also when it is interrupted. `make demo` builds and runs it.
set -euo pipefail
cd "$(dirname "$0")/../.."

bin=$PWD/${WIRETAPE_BIN:-target/release}
seconds=${WIRETAPE_DEMO_SECONDS:-10}
run=wtdemo$$
group=233.54.12.111:26477
exchange_ns=${run}x
capture_ns=${run}c
work=$(mktemp -d "${TMPDIR:-/tmp}/$run.XXXXXX")
segments=/dev/shm/$run
pids=()

bold=$(tput bold 2>/dev/null || true)
plain=$(tput sgr0 2>/dev/null || true)
say() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
show() { printf '%s$ %s%s\n' "$bold" "$*" "$plain"; }

clean_up() {
    status=$?
    trap - EXIT INT TERM HUP
    for pid in "${pids[@]:-}"; do [ -z "$pid" ] || kill -TERM "$pid" 2>/dev/null || true; done
    for pid in "${pids[@]:-}"; do [ -z "$pid" ] || wait "$pid" 2>/dev/null || true; done
    if mountpoint -q "$work/bpf" 2>/dev/null; then
        ip netns exec "$capture_ns" "$bin/wiretape-xdp" unload --interface feed0 \
            --pin-dir "$work/bpf" >/dev/null 2>&1 || true
        umount "$work/bpf" || true
    fi
    for ns in "$exchange_ns" "$capture_ns"; do
        if [ -e "/run/netns/$ns" ]; then ip netns del "$ns" || true; fi
    done
    rm -rf "$work" "$segments"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# A command of this demo: shown as a user would type it, run with the demo's own paths.
wiretape() {
    show "wiretape $*"
    case $1 in
        query) "$bin/wiretape" "$@" --socket "$work/host.sock" ;;
        *) "$bin/wiretape" "$@" --segment "$segments/demo.seg" ;;
    esac
}

wait_for() {
    for _ in $(seq 200); do
        if [ -e "$1" ]; then return; fi
        sleep 0.05
    done
    echo "waited in vain for $1" >&2
    cat "$work"/*.log >&2
    exit 1
}

network() {
    [ "$(id -u)" -eq 0 ] || { reason="not root"; return 1; }
    ip netns add "$exchange_ns" 2>/dev/null || { reason="no network namespaces here"; return 1; }
    ip netns add "$capture_ns"
    ip link add wire0 netns "$exchange_ns" numtxqueues 1 numrxqueues 1 type veth \
        peer name feed0 netns "$capture_ns" numtxqueues 1 numrxqueues 1
    # A full veth has the sender wait, as from Linux 6.16 on it can, where there is a queue before it.
    tc -n "$exchange_ns" qdisc add dev wire0 root pfifo limit 100000 2>/dev/null || true
    ip -n "$exchange_ns" address add 10.77.0.1/24 dev wire0
    ip -n "$capture_ns" address add 10.77.0.2/24 dev feed0
    for pair in "$exchange_ns wire0" "$capture_ns feed0"; do
        read -r ns dev <<<"$pair"
        ip -n "$ns" link set lo up
        ip -n "$ns" link set "$dev" up
        ip -n "$ns" route add 224.0.0.0/4 dev "$dev"
        # veth leaves checksums to hardware that is not there.
        ip netns exec "$ns" ethtool -K "$dev" tx off >/dev/null 2>&1 || true
    done
    mkdir "$work/bpf"
    mount -t bpf bpf "$work/bpf" 2>/dev/null || { reason="no bpf file system here"; return 1; }
    ip netns exec "$capture_ns" "$bin/wiretape-xdp" load --interface feed0 --group "$group" \
        --pin-dir "$work/bpf" >"$work/load.log" 2>&1 \
        || { reason="the XDP program cannot be loaded: $(head -1 "$work/load.log")"; return 1; }
}

config() {
    printf '[worker]\nname = "demo"\nsegment_dir = "%s"\nidle = "yield"\n\n[source]\n%s\n\n' \
        "$segments" "$1"
    printf '[[feed]]\nname = "simulated"\nprotocol = "itch50-moldudp64"\ngroup = "%s"\n' "$group"
}

mkdir -p "$segments"
exchange=("$bin/wiretape-exchange" --sim --seed 7 --start now --session-length "${seconds}s"
    --group "$group" --quiet)

if network; then
    say "An exchange plays $seconds seconds of a simulated feed over veth; XDP steers it into capture"
    cat "$work/load.log"
    config "kind = \"xdp\"
interface = \"feed0\"
pin_dir = \"$work/bpf\"" >"$work/capture.toml"
    ip netns exec "$capture_ns" "$bin/wiretape-capture" --config "$work/capture.toml" \
        >"$work/capture.log" 2>&1 &
    pids+=($!) capture=$!
    wait_for "$segments/demo.seg"
    ip netns exec "$exchange_ns" "${exchange[@]}" --udp --interface wire0 \
        >"$work/exchange.log" 2>&1 &
    pids+=($!) player=$!
else
    say "No network path here ($reason): the same path runs on the pcap source"
    "${exchange[@]}" --write "$work/feed.pcap"
    config "kind = \"pcap\"
path = \"$work/feed.pcap\"
speed = \"recorded\"" >"$work/capture.toml"
    "$bin/wiretape-capture" --config "$work/capture.toml" >"$work/capture.log" 2>&1 &
    pids+=($!) capture=$! player=$!
    wait_for "$segments/demo.seg"
fi
head -1 "$work/capture.log"

"$bin/wiretape-host" --segment "$segments/demo.seg" --socket "$work/host.sock" \
    >"$work/host.log" 2>&1 &
pids+=($!) host=$!
wait_for "$work/host.sock"

say "The tape moves"
wiretape tail --from now --count 12
sleep "$(awk "BEGIN { print $seconds / 3 }")"
say "Who is there, what arrived, what was lost"
wiretape status
wait "$player" || { cat "$work"/*.log; exit 1; }
sleep 0.5

symbol=ALDER
say "Questions, over what came so far: bars, trades with the quote before them, the latest book"
wiretape query bars --instrument "$symbol" --every 2s
wiretape query asof --instrument "$symbol" --limit 8
wiretape query range --instrument "$symbol" --limit 5 --format csv
wiretape book "$symbol"

say "The end: capture takes in what was received, and the ledger closes"
if kill -TERM "$capture" 2>/dev/null; then :; fi
wait "$capture" || { cat "$work/capture.log"; exit 1; }
cat "$work/capture.log"
wiretape status
kill -TERM "$host"
wait "$host" || { cat "$work/host.log"; exit 1; }
say "Done. Nothing was left behind."
