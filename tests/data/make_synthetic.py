"""Makes `synthetic.gz`: twenty virtual seconds of the embedded exchange's BTC and kPEPE, seed 7.

Run from the checkout: `.venv/bin/python -m tests.data.make_synthetic`. A test compares the file
with what this makes.
"""

from __future__ import annotations

import gzip
from functools import partial
from pathlib import Path

import trio
import trio.testing

from zq_daemon.ports.clock import VirtualClock
from zq_daemon.venue.exchange.exchange import Exchange
from zq_daemon.venue.exchange.market import SyntheticMarket
from zq_daemon.venue.exchange.record import record
from zq_daemon.venue.exchange.server import run_market

SYNTHETIC = Path(__file__).with_name("synthetic.gz")
STREAMS = [
    {"type": kind, "coin": coin}
    for coin in ("BTC", "kPEPE")
    for kind in ("l2Book", "trades", "bbo", "activeAssetCtx")
]


def make() -> list[str]:
    """The lines of the capture."""
    return trio.run(_record, clock=trio.testing.MockClock(autojump_threshold=0))


async def _record() -> list[str]:
    clock = VirtualClock()
    exchange = Exchange(clock, SyntheticMarket(7))
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(run_market, exchange, clock))
        lines = await record(exchange, STREAMS, clock, duration_s=20.05)
        nursery.cancel_scope.cancel()
    return lines


if __name__ == "__main__":
    text = "".join(f"{line}\n" for line in make())
    SYNTHETIC.write_bytes(gzip.compress(text.encode(), mtime=0))
