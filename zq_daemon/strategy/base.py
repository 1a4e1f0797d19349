"""What a strategy is: a class with synchronous handlers, and parameters as an attrs class.

To write one, subclass `Strategy`, declare its parameters, and override the handlers it needs:

    from decimal import Decimal
    from attrs import frozen
    from zq_daemon.model.market import Side, Trade
    from zq_daemon.strategy.base import Strategy

    class BuyTheDip(Strategy):
        @frozen
        class Params:
            dip: Decimal = Decimal("0.01")
            quantity: Decimal = Decimal("0.001")

        params: Params

        def on_start(self) -> None:
            self.high = Decimal(0)

        def on_trade(self, trade: Trade) -> None:
            self.high = max(self.high, trade.price)
            if trade.price < self.high * (1 - self.params.dip):
                self.high = trade.price
                self.context.submit_market(trade.instrument_id, Side.BUY, self.params.quantity)

and name it in the configuration:

    [[strategies]]
    name = "dip"
    use = "dip:BuyTheDip"        # module:Class
    path = "my_strategies"       # the folder with dip.py
    instruments = ["hyperliquid.BTC"]
    params = { dip = 0.02 }

Handlers run on the daemon's one thread: return soon, never sleep, never do I/O. A handler that is
not overridden is not subscribed and costs nothing. One that raises makes its strategy FAULTED: it
hears nothing more, while the others live on, and its orders are cancelled, held, or cancelled and
its position closed, as `on_fault` of the configuration says. What a handler causes (order events,
fills) is delivered after it has returned. Prices and quantities are Decimals (or ints): passing a
float or anything else of a wrong type raises a StrategyError at once (`strategy.arguments`).
"""

from __future__ import annotations

from typing import Any, ClassVar

from attrs import frozen

from zq_daemon.core.book import OrderBook
from zq_daemon.model.bar import Bar, Candle
from zq_daemon.model.event import OrderEvent, Tick
from zq_daemon.model.fill import Fill
from zq_daemon.model.market import MarkPrice, MidPrice, Quote, Trade
from zq_daemon.strategy.context import StrategyContext


@frozen
class NoParams:
    """The parameters of a strategy that has none."""


class Strategy:
    """Base of all strategies; `self.context` and `self.params` are there in every handler.

    *Params* is a frozen attrs class; its fields are the keys of the configuration's `params` table,
    checked like the rest of the file (validators may add their own conditions by ValueError).
    """

    Params: ClassVar[type] = NoParams

    context: StrategyContext
    params: Any

    def __init__(self, context: StrategyContext, params: Any) -> None:
        """Keep both; state that needs no market is best made in `on_start`."""
        self.context = context
        self.params = params

    def on_start(self) -> None:
        """Links are up, and orders may be submitted; in each run of the daemon once.

        After a restart, graceful or not, the orders and fills of former runs are known again from
        the journal, and the venue has been asked about them. So before anything else, take over:

        - `context.live_orders()` are the orders of this strategy's name that still live, however
          they were asked for: by another version of it, with other parameters, in flight still.
          With `on_start = "cancel"` in the configuration they are on their way out. Those of
          instruments it no longer has are being cancelled; events of them still arrive.
        - `context.position()` is what all its fills add up to, those too that happened while the
          daemon was down. `on_fill` and `on_order_event` tell of none of that again.
        - `context.saved_state` is what it saved last. After a crash that can be older than the
          orders and the position are: where they disagree, those are right.

        Everything else begins anew: timers, attributes, bars (the first one may begin in the
        middle), and with them indicators, which have to warm up. There may be no book or quote yet.
        """

    def on_stop(self) -> None:
        """The last call: nothing new may be submitted; what rests is the daemon's to deal with.

        It is cancelled, or left for the next run, as `on_stop` of the configuration says.
        """

    def on_params(self, params: Any) -> None:
        """New parameters were loaded while running; by default they just replace the old ones."""
        self.params = params

    def on_trade(self, trade: Trade) -> None:
        """A public trade; each exactly once, in the venue's order."""

    def on_quote(self, quote: Quote) -> None:
        """The best bid or offer changed."""

    def on_book(self, book: OrderBook) -> None:
        """The order book was updated; *book* is live, to be read and not kept."""

    def on_mark(self, mark: MarkPrice) -> None:
        """The venue stated mark price, oracle price or funding anew."""

    def on_mid(self, mid: MidPrice) -> None:
        """The venue stated another middle price (stream `allMids`)."""

    def on_candle(self, candle: Candle) -> None:
        """A candle of the venue changed, or (`is_closed`) ended; of each interval subscribed to."""

    def on_bar(self, bar: Bar) -> None:
        """A bar of one of the configured specs closed."""

    def on_tick(self, tick: Tick) -> None:
        """Every `tick_interval_ms` of the configuration; never without it."""

    def on_order_event(self, event: OrderEvent) -> None:
        """Something happened to an order of this strategy, fills included."""

    def on_fill(self, fill: Fill) -> None:
        """An order of this strategy was filled in part or whole; each execution once."""
