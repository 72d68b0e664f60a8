"""The peer of `cargo bench --bench book`: itch-book (PyPI), decode and full book, no table.

    make oracle
    cargo bench -p wiretape-bench --bench book -- --write scaled.itch
    target/oracle/bin/python bench/peers/replay_itch_book.py scaled.itch

Its C++ session is fed the whole file from memory in one call, so nothing of Python is in the
time. Best of seven passes, as in our own benchmark, which runs this by itself where it can.
"""
import sys
import time

from itch_book._core import Session


def main() -> None:
    with open(sys.argv[1], "rb") as file:
        feed = file.read()
    best = float("inf")
    for _ in range(7):
        session = Session([], 0, [])
        start = time.perf_counter()
        session.feed(feed)
        best = min(best, time.perf_counter() - start)
    stats = session.stats()
    messages = stats["messages"]
    rate = messages / best / 1e6
    print(f"itch-book: {best * 1e9 / messages:.2f} ns/message {rate:.2f} M/s, {messages} messages")
    print({name: value for name, value in stats.items() if isinstance(value, int)})


main()
