"""The summary a person watching the terminal sees: prices, and what each strategy holds and made.

Written through the log at a fixed interval; `status` gives the same and more on request.
"""

from __future__ import annotations

from decimal import Decimal

import structlog
import trio

from zq_daemon.assembly import Assembly
from zq_daemon.model.ids import InstrumentId, symbol_of

_log = structlog.get_logger("zq.summary")


async def print_summaries(parts: Assembly) -> None:
    """Log a summary every `log.summary_interval_ms` until cancelled; 0 is off."""
    interval_ms = parts.config.log.summary_interval_ms
    if not interval_ms:
        return
    while True:
        await trio.sleep(interval_ms / 1000)
        log_summary(parts)


def log_summary(parts: Assembly) -> None:
    """One line of prices, one line for each strategy."""
    if prices := _prices(parts):
        _log.info("market", **prices)
    for status in parts.strategies.status():
        _log.info(
            "strategy",
            name=status["name"],
            state=status["state"],
            position=_holdings(status["positions"]),
            open_orders=status["open_orders"],
            closed_orders=status["closed_orders"],
            net_pnl=status["net_pnl"],
        )


def _prices(parts: Assembly) -> dict[str, str]:
    prices = {}
    for instrument in parts.instruments:
        book = parts.cache.book(instrument)
        if book is None or book.best_bid is None or book.best_ask is None:
            continue
        stale = " (stale)" if parts.data.is_stale(instrument) else ""
        price = f"{_plain(book.best_bid.price)}/{_plain(book.best_ask.price)}{stale}"
        prices[symbol_of(instrument)] = price
    return prices


def _holdings(position: dict[str, str]) -> str:
    held = [
        f"{symbol_of(InstrumentId(name))} {quantity}"
        for name, quantity in position.items()
        if quantity != "0"
    ]
    return ", ".join(held) or "flat"


def _plain(price: Decimal) -> str:
    return f"{price:f}"
