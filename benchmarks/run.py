"""`python -m benchmarks [--quick] [--only NAME]`: measure, and print one table."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping

from benchmarks import (
    book,
    bus,
    cache,
    commit,
    decode,
    exchange,
    feed,
    idle,
    journal,
    loopback,
    memory,
    orders,
    replay,
    signing,
    steady,
)
from benchmarks.measure import FULL, QUICK, Scale
from benchmarks.report import HEADERS, Row, machine, print_table

BENCHMARKS: Mapping[str, Callable[[Scale], Iterator[Row]]] = {
    "bus": bus.run,
    "cache": cache.run,
    "book": book.run,
    "decode": decode.run,
    "feed": feed.run,
    "orders": orders.run,
    "signing": signing.run,
    "loopback": loopback.run,
    "exchange": exchange.run,
    "commit": commit.run,
    "journal": journal.run,
    "replay": replay.run,
    "idle": idle.run,
    "memory": memory.run,
    "steady": steady.run,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything: a minute")
    parser.add_argument("--only", choices=BENCHMARKS, action="append", help="one; may be repeated")
    chosen = parser.parse_args()
    rows: list[Row] = []
    for name in chosen.only or BENCHMARKS:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        rows += BENCHMARKS[name](QUICK if chosen.quick else FULL)
    title = f"zq-daemon: what it costs ({machine()})"
    print_table(title, HEADERS, [row.cells() for row in rows])


if __name__ == "__main__":
    main()
