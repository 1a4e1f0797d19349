"""Recording what a client of the embedded exchange would receive, as a capture.

Owns the line format on the writing side: `<receive ns> <raw JSON>`. The replay market and the tests
read it.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from zq_daemon.ports.clock import Clock
from zq_daemon.venue.exchange.exchange import Exchange
from zq_daemon.venue.exchange.messages import Json


async def record(
    exchange: Exchange, subscriptions: Sequence[Json], clock: Clock, *, duration_s: float
) -> list[str]:
    """Subscribe inside *exchange* and return the lines received in *duration_s* of Trio's time.

    The market must be run by somebody else (`server.run_market`).
    """
    connection = exchange.connect()
    lines: list[str] = []
    try:
        for subscription in subscriptions:
            exchange.subscribe(connection, subscription)
        with trio.move_on_after(duration_s):
            while batch := await connection.outbox.take():
                now_ns = clock.now_ns()
                lines += [f"{now_ns} {message}" for message in batch]
    finally:
        exchange.disconnect(connection)
    return lines
