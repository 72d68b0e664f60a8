"""Plays a day file of ITCH 5.0 into itch-book (PyPI), a peer of `cargo bench --bench book`:

    make oracle
    cargo bench -p wiretape-bench --bench book -- --write scaled.itch
    target/oracle/bin/python bench/peers/replay_itch_book.py scaled.itch 3

Prints the nanoseconds of the best of so many passes, the messages and the live orders at the end. Its
C++ session is fed the whole file from memory in one call, so nothing of Python is in the time.
"""
import sys
import time

from itch_book._core import Session


def main() -> None:
    with open(sys.argv[1], "rb") as file:
        feed = file.read()
    best = None
    for _ in range(int(sys.argv[2])):
        session = Session([], 0, [])
        start = time.perf_counter_ns()
        session.feed(feed)
        took = time.perf_counter_ns() - start
        best = took if best is None else min(best, took)
    stats = session.stats()
    print(best, stats["messages"], stats["live_orders"])


main()
