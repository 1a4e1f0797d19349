"""A trading daemon on Trio; the names here are its public Python interface.

They are imported on first use, so that the command line starts quickly and importing one part of
the package does not import all of it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zq_daemon.assembly import Ports
    from zq_daemon.config.load import load_config
    from zq_daemon.config.schema import DaemonConfig
    from zq_daemon.core.book import OrderBook
    from zq_daemon.daemon import Daemon, open_daemon, run
    from zq_daemon.model.bar import Bar, BarSpec, Candle
    from zq_daemon.model.event import OrderEvent, Tick
    from zq_daemon.model.fill import Fill
    from zq_daemon.model.ids import ClientOrderId, InstrumentId
    from zq_daemon.model.market import MarkPrice, MidPrice, Quote, Side, Trade
    from zq_daemon.model.order import Order, TimeInForce
    from zq_daemon.model.position import Position
    from zq_daemon.strategy.base import Strategy
    from zq_daemon.strategy.context import Bracket, StrategyContext

__all__ = [
    "Bar",
    "BarSpec",
    "Bracket",
    "Candle",
    "ClientOrderId",
    "Daemon",
    "DaemonConfig",
    "Fill",
    "InstrumentId",
    "MarkPrice",
    "MidPrice",
    "Order",
    "OrderBook",
    "OrderEvent",
    "Ports",
    "Position",
    "Quote",
    "Side",
    "Strategy",
    "StrategyContext",
    "Tick",
    "TimeInForce",
    "Trade",
    "load_config",
    "open_daemon",
    "run",
]

_HOMES = {
    "assembly": ("Ports",),
    "config.load": ("load_config",),
    "config.schema": ("DaemonConfig",),
    "core.book": ("OrderBook",),
    "daemon": ("Daemon", "open_daemon", "run"),
    "model.bar": ("Bar", "BarSpec", "Candle"),
    "model.event": ("OrderEvent", "Tick"),
    "model.fill": ("Fill",),
    "model.ids": ("ClientOrderId", "InstrumentId"),
    "model.market": ("MarkPrice", "MidPrice", "Quote", "Side", "Trade"),
    "model.order": ("Order", "TimeInForce"),
    "model.position": ("Position",),
    "strategy.base": ("Strategy",),
    "strategy.context": ("Bracket", "StrategyContext"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
