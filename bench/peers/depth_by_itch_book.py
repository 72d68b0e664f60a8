"""Ten levels after every message of an ITCH 5.0 day file, by itch-book (PyPI): an order book that
shares nothing with ours, for `bench/tests/second_oracle.rs`.

    python3 bench/peers/depth_by_itch_book.py day.itch > rows

A row for each message that changed one of an instrument's ten best levels: the message's number
(from 1), the locate, and for each level price (1e-4), shares and orders of the bid, then of the
offer; each a little-endian int64, 0 where there is no level.
"""
import datetime
import sys

import itch_book
import numpy

LEVELS = 10
COLUMNS = ["seq", "locate"] + [
    f"{side}_{what}_{level:02}"
    for level in range(LEVELS)
    for side in ("bid", "ask")
    for what in ("px", "sz", "ct")
]


def main() -> None:
    # The date only moves the times, which are not compared.
    feed = itch_book.open(sys.argv[1], date=datetime.date(2012, 6, 21), price_type="fixed")
    for batch in feed.batches(tables=("depth",), depth=LEVELS, rows=50_000):
        rows = numpy.column_stack([batch.depth[name].astype("<i8") for name in COLUMNS])
        sys.stdout.buffer.write(rows.tobytes())


main()
