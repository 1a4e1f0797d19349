"""A strategy of a user's own, loaded by path: it writes down everything it saw."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from attrs import frozen

from zq_daemon.core.book import OrderBook
from zq_daemon.model.market import MarkPrice, Quote, Trade
from zq_daemon.strategy.base import Strategy


class Recorder(Strategy):
    """Leaves a JSON array a line in *file*; logs `recorded` at line *lines* or trade *trade*."""

    @frozen
    class Params:
        file: str
        lines: int = 0
        trade: int = -1

    params: Params

    def on_start(self) -> None:
        self.lines: list[str] = []

    def on_stop(self) -> None:
        Path(self.params.file).write_text("\n".join(self.lines))

    def on_trade(self, trade: Trade) -> None:
        number, side = int(trade.trade_id), trade.aggressor.value
        self._write("trades", trade, number, side, str(trade.price), str(trade.quantity))
        if number == self.params.trade:
            self.context.log.info("recorded", trade=number)

    def on_book(self, book: OrderBook) -> None:
        sides = book.bids(), book.asks()
        levels = [[[str(each.price), str(each.quantity)] for each in side] for side in sides]
        self._write("l2Book", book, levels)

    def on_quote(self, quote: Quote) -> None:
        bid, ask = str(quote.bid_price), str(quote.ask_price)
        self._write("bbo", quote, bid, str(quote.bid_quantity), ask, str(quote.ask_quantity))

    def on_mark(self, mark: MarkPrice) -> None:
        self._write("activeAssetCtx", mark, str(mark.mark_price))

    def _write(self, channel: str, event: Any, *values: Any) -> None:
        coin = event.instrument_id.partition(".")[2]
        # A mark is stamped with the time it was received: the venue gives it none.
        ts_ms = None if channel == "activeAssetCtx" else event.ts_event_ns // 1_000_000
        self.lines.append(json.dumps([channel, coin, ts_ms, *values]))
        if len(self.lines) == self.params.lines:
            self.context.log.info("recorded", lines=len(self.lines))
