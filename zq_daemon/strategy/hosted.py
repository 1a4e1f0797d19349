"""One strategy with what the host knows of it: where it stands, and what of the market it hears.

Owns its subscriptions: every handler that its class overrides, and no other. The host alone makes
and moves it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import Any, assert_never

from zq_daemon.config.schema import StrategyConfig
from zq_daemon.core import topics
from zq_daemon.core.bus import MessageBus, Subscription
from zq_daemon.core.cache import Cache
from zq_daemon.strategy.base import Strategy
from zq_daemon.strategy.context import StrategyContext
from zq_daemon.strategy.flatten import Flattening


class StrategyState(Enum):
    """Where a strategy stands: only a RUNNING one hears the market."""

    LOADED = "loaded"
    RUNNING = "running"
    HALTED = "halted"
    FAULTED = "faulted"
    STOPPED = "stopped"


class Hosted:
    """One strategy with what the host knows of it."""

    def __init__(
        self,
        config: StrategyConfig,
        strategy: Strategy,
        context: StrategyContext,
        bus: MessageBus,
    ) -> None:
        self.config = config
        self.strategy = strategy
        self.context = context
        self.state = StrategyState.LOADED
        self.reason = ""
        self.started = False
        self.faults = 0
        self.flattening: Flattening | None = None
        self._bus = bus
        self._calls = topics.strategy_call(config.name)
        self._called: Subscription | None = None
        self._own: list[Subscription] = []
        self._market: list[Subscription] = []

    def enter(self, state: StrategyState, reason: str) -> None:
        """Note where the strategy stands now."""
        self.state = state
        self.reason = reason

    def told(self) -> str:
        """The reason, and what becomes of a faulted strategy's orders; empty while all is well."""
        if self.state is not StrategyState.FAULTED:
            return self.reason
        match self.config.on_fault:
            case "cancel":
                return f"{self.reason}; its orders are cancelled"
            case "hold":
                return f"{self.reason}; its orders are held"
            case "flatten":
                ended = "flattening ended: the daemon stops"
                return f"{self.reason}; {self.flattening or ended}"
            case unreachable:
                assert_never(unreachable)

    def call(self, function: Callable[[], None]) -> None:
        """Call the strategy's own code as the handler of an event, with the containment of one."""
        self._bus.publish(self._calls, function)

    def take_params(self, params: Any) -> None:
        """Hand over new parameters, to a strategy that has not started too."""
        self._listen_to_calls()
        self.call(partial(self.strategy.on_params, params))

    def listen(self, cache: Cache) -> None:
        """Subscribe the handlers that the class overrides and that are not subscribed yet."""
        self._listen_to_calls()
        if not self._own:
            name = topics.escape(self.config.name)
            if self._overrides("on_order_event"):
                pattern = f"order.*.{name}.*"
                self._own.append(self._subscribe(pattern, self.strategy.on_order_event))
            if self._overrides("on_fill"):
                pattern = f"order.filled.{name}.*"
                self._own.append(self._subscribe(pattern, _of_fill(self.strategy.on_fill)))
        self._market = [self._subscribe(*each) for each in self._market_handlers(cache)]

    def silence_market(self) -> None:
        """Hear no market and no ticks; timers are kept until the strategy goes on."""
        for subscription in self._market:
            subscription.cancel()
        self._market = []

    def silence(self) -> None:
        """Hear nothing at all."""
        self.silence_market()
        for subscription in (*self._own, self._called):
            if subscription is not None:
                subscription.cancel()
        self._own, self._called = [], None
        self.context.clear_timers()

    def _listen_to_calls(self) -> None:
        if self._called is None:
            self._called = self._subscribe(self._calls, _make_call)

    def _market_handlers(self, cache: Cache) -> list[tuple[str, Callable[[Any], None]]]:
        strategy, found = self.strategy, []
        for iid in self.context.instruments:
            handlers: list[tuple[str, str, Callable[[Any], None]]] = [
                ("on_trade", topics.trade(iid), strategy.on_trade),
                ("on_quote", topics.quote(iid), strategy.on_quote),
                ("on_mark", topics.mark(iid), strategy.on_mark),
                ("on_mid", topics.mid(iid), strategy.on_mid),
                ("on_candle", topics.candles(iid), strategy.on_candle),
                ("on_book", topics.book_snapshot(iid), _of_book(strategy.on_book, cache)),
            ]
            handlers += (
                ("on_bar", topics.bar(iid, spec), strategy.on_bar) for spec in self.context.bars
            )
            found += [
                (topic, handler) for name, topic, handler in handlers if self._overrides(name)
            ]
        if self._overrides("on_tick"):
            found.append((topics.TICK, strategy.on_tick))
        return found

    def _subscribe(self, pattern: str, handler: Callable[[Any], None]) -> Subscription:
        return self._bus.subscribe(pattern, handler, owner=self.config.name)

    def _overrides(self, handler: str) -> bool:
        return getattr(type(self.strategy), handler) is not getattr(Strategy, handler)


def _make_call(function: Callable[[], None]) -> None:
    function()


def _of_fill(handler: Callable[[Any], None]) -> Callable[[Any], None]:
    return lambda event: handler(event.fill)


def _of_book(handler: Callable[[Any], None], cache: Cache) -> Callable[[Any], None]:
    """The book is looked up for each event: the cache may be given another one."""
    return lambda event: handler(cache.book(event.instrument_id))
