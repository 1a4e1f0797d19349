"""Runs the strategies: loads, starts, stops and reloads them, and contains what they do wrong.

Owns each strategy's subscriptions, state and timers. It never trades; a strategy's own code is only
ever called through the bus, so that whatever it raises becomes a fault of its owner, the strategy.
The daemon loads, starts and stops it, calls `on_clock` from housekeeping and `on_fault` from the
bus, and halts strategies whose links are gone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import Any

import structlog

from zq_daemon.config.schema import StrategyConfig
from zq_daemon.config.source import Source
from zq_daemon.core import topics
from zq_daemon.core.bus import Fault, MessageBus, Subscription
from zq_daemon.core.cache import Cache
from zq_daemon.core.portfolio import Portfolio
from zq_daemon.errors import ConfigError, StrategyError
from zq_daemon.model.bar import BarSpec
from zq_daemon.model.command import CancelAllOrders
from zq_daemon.model.event import HealthChanged
from zq_daemon.model.ids import (
    RESERVED_OWNERS,
    AccountId,
    ClientOrderId,
    InstrumentId,
    StrategyId,
    Venue,
    parse_instrument_id,
)
from zq_daemon.model.money import ROUNDED
from zq_daemon.ports.clock import Clock
from zq_daemon.strategy.base import Strategy
from zq_daemon.strategy.context import StrategyContext
from zq_daemon.strategy.load import Blame, load_class, structure_params

_log = structlog.get_logger("zq.strategies")

_CONFIGURATION = Source(name="configuration")


class StrategyState(Enum):
    """Where a strategy stands: only a RUNNING one hears the market."""

    LOADED = "loaded"
    RUNNING = "running"
    HALTED = "halted"
    FAULTED = "faulted"
    STOPPED = "stopped"


class StrategyHost:
    """All strategies of the daemon, in the order of the configuration."""

    def __init__(
        self,
        *,
        bus: MessageBus,
        cache: Cache,
        portfolio: Portfolio,
        clock: Clock,
        accounts: Mapping[Venue, AccountId],
        mint: Callable[[], ClientOrderId],
        add_bars: Callable[[InstrumentId, BarSpec], None],
    ) -> None:
        """*accounts* names the account by venue, *mint* makes client order ids, *add_bars* bars."""
        self._bus = bus
        self._cache = cache
        self._portfolio = portfolio
        self._clock = clock
        self._accounts = accounts
        self._mint = mint
        self._add_bars = add_bars
        self._hosted: dict[StrategyId, _Hosted] = {}

    def load(self, configs: Sequence[StrategyConfig], source: Source = _CONFIGURATION) -> None:
        """Make every enabled strategy; instruments must be known. *source* is the whole file's.

        Raises StrategyError for a class that cannot be used, ConfigError for parameters (of all
        strategies at once) and unknown instruments.
        """
        classes = {
            config.name: load_class(config.name, config.use, config.path)
            for config in configs
            if config.enabled
        }
        params = _structure_all(configs, classes, source)
        for config in configs:
            if config.enabled:
                self._make(config, classes[config.name], params[config.name])

    def start(self) -> None:
        """Start all that are loaded, in order; one that raises is FAULTED, the others live."""
        for hosted in self._hosted.values():
            if hosted.state is StrategyState.LOADED:
                self._run(hosted)

    def stop(self) -> None:
        """Stop all, the last one first: after `on_stop` nothing more is heard or submitted."""
        for hosted in reversed(self._hosted.values()):
            if hosted.started and hosted.state is not StrategyState.FAULTED:
                hosted.context.permit("it is stopping")
                hosted.call(hosted.strategy.on_stop)
            hosted.silence()
            if hosted.state is not StrategyState.FAULTED:
                hosted.enter(StrategyState.STOPPED, "")

    def on_clock(self, now_ns: int) -> None:
        """Fire what timers are due; the times are read from the clock port, not from *now_ns*."""
        for hosted in self._hosted.values():
            while hosted.state is StrategyState.RUNNING and (timer := hosted.context.due_timer()):
                hosted.call(timer.callback)

    def on_fault(self, fault: Fault) -> bool:
        """Contain a fault of a strategy of ours; False if *fault* is somebody else's.

        The strategy is unsubscribed and may not submit; its live orders are cancelled.
        """
        hosted = self._hosted.get(StrategyId(fault.owner))
        if hosted is None:
            return False
        hosted.faults += 1
        if hosted.state is StrategyState.FAULTED:
            return True
        reason = f"{fault.topic}: {type(fault.error).__name__}: {fault.error}"
        _log.error("strategy faulted", strategy=fault.owner, reason=reason, exc_info=fault.error)
        hosted.silence()
        hosted.context.permit("it is faulted")
        hosted.enter(StrategyState.FAULTED, reason)
        self._cancel_orders(hosted)
        self._tell_health(hosted, healthy=False)
        return True

    def halt(self, name: str, reason: str) -> None:
        """Let a strategy hear no market and submit nothing until it is resumed.

        Its live orders are cancelled; it still hears of its orders and fills. One that has not been
        started will not be until it is resumed.
        """
        hosted = self._hosted[StrategyId(name)]
        if hosted.state not in (StrategyState.LOADED, StrategyState.RUNNING):
            return
        _log.error("strategy halted", strategy=name, reason=reason)
        hosted.silence_market()
        hosted.context.permit(f"it is halted: {reason}")
        hosted.enter(StrategyState.HALTED, reason)
        self._cancel_orders(hosted)
        self._tell_health(hosted, healthy=False)

    def halt_for(self, instruments: Collection[InstrumentId] | None, reason: str) -> None:
        """Halt the strategies that use any of *instruments* (None: all of them)."""
        for name in self._users(instruments):
            self.halt(name, reason)

    def resume(self, name: str) -> None:
        """Let a halted strategy go on where it was."""
        hosted = self._hosted[StrategyId(name)]
        if hosted.state is StrategyState.HALTED:
            _log.info("strategy resumed", strategy=name)
            self._run(hosted)
            self._tell_health(hosted, healthy=True)

    def resume_for(self, instruments: Collection[InstrumentId] | None) -> None:
        """Resume the halted strategies that use any of *instruments* (None: all of them)."""
        for name in self._users(instruments):
            self.resume(name)

    def reload(
        self, configs: Sequence[StrategyConfig], source: Source = _CONFIGURATION
    ) -> tuple[str, ...]:
        """Hand changed parameters to the strategies that are loaded; names of those that took them.

        ConfigError, with nothing changed, if any are wrong. Strategies that are new, gone, of
        another class, or `deaf` need a restart and are left alone.
        """
        known = [config for config in configs if self._is_same(config)]
        classes = {
            config.name: type(self._hosted[StrategyId(config.name)].strategy) for config in known
        }
        params = _structure_all(configs, classes, source)
        changed = []
        for name, made in params.items():
            hosted = self._hosted[StrategyId(name)]
            if made == hosted.strategy.params:
                continue
            if name not in self.deaf():
                hosted.take_params(made)
            if name in self.deaf():
                state = hosted.state.value
                _log.warning("parameters need a restart", strategy=name, state=state)
            else:
                changed.append(name)
        return tuple(changed)

    def deaf(self) -> frozenset[str]:
        """The names of strategies that will hear nothing any more: faulted or stopped."""
        over = (StrategyState.FAULTED, StrategyState.STOPPED)
        return frozenset(name for name, hosted in self._hosted.items() if hosted.state in over)

    def status(self) -> list[dict[str, Any]]:
        """What `status` shows of each strategy; amounts as text in the quote currency."""
        return [self._status(hosted) for hosted in self._hosted.values()]

    def strategies(self) -> Mapping[StrategyId, Strategy]:
        """The instances, by name."""
        return {name: hosted.strategy for name, hosted in self._hosted.items()}

    def state(self, name: str) -> StrategyState:
        """Where a strategy stands; KeyError if there is none of that name."""
        return self._hosted[StrategyId(name)].state

    def _make(self, config: StrategyConfig, cls: type[Strategy], params: Any) -> None:
        strategy_id = StrategyId(config.name)
        if strategy_id in self._hosted or config.name in ("", *RESERVED_OWNERS):
            raise StrategyError(f"strategy {config.name!r}: the name is taken")
        try:
            instruments = tuple(parse_instrument_id(each) for each in config.instruments)
            bars = tuple(BarSpec.parse(each) for each in config.bars)
        except ValueError as error:
            raise ConfigError(f"strategy {config.name}: {error}") from error
        for instrument_id in instruments:
            if self._cache.instrument(instrument_id) is None:
                raise ConfigError(
                    f"strategy {config.name}: the venue has no instrument {instrument_id!r}"
                )
            for spec in bars:
                self._add_bars(instrument_id, spec)
        context = StrategyContext(
            strategy_id=strategy_id,
            instruments=instruments,
            bars=bars,
            bus=self._bus,
            cache=self._cache,
            portfolio=self._portfolio,
            clock=self._clock,
            accounts=self._accounts,
            mint=self._mint,
        )
        with Blame(config.name, "making it"):
            strategy = cls(context, params)
        self._hosted[strategy_id] = _Hosted(config, strategy, context, self._bus)

    def _run(self, hosted: _Hosted) -> None:
        hosted.context.permit(None)
        hosted.enter(StrategyState.RUNNING, "")
        hosted.listen(self._cache)
        if not hosted.started:
            hosted.started = True
            hosted.call(hosted.strategy.on_start)

    def _is_same(self, config: StrategyConfig) -> bool:
        hosted = self._hosted.get(StrategyId(config.name))
        return hosted is not None and config.enabled and hosted.config.use == config.use

    def _users(self, instruments: Collection[InstrumentId] | None) -> tuple[StrategyId, ...]:
        return tuple(
            name
            for name, hosted in self._hosted.items()
            if instruments is None or set(instruments) & set(hosted.context.instruments)
        )

    def _cancel_orders(self, hosted: _Hosted) -> None:
        strategy_id = hosted.context.strategy_id
        if self._cache.live_count(strategy_id=strategy_id):
            self._bus.send("order.cancel_all", CancelAllOrders(strategy_id=strategy_id))

    def _tell_health(self, hosted: _Hosted, *, healthy: bool) -> None:
        component = f"strategy:{hosted.config.name}"
        event = HealthChanged(
            component=component,
            healthy=healthy,
            reason=hosted.reason,
            ts_event_ns=self._clock.now_ns(),
        )
        self._bus.publish(topics.health(component), event)

    def _status(self, hosted: _Hosted) -> dict[str, Any]:
        strategy_id = hosted.context.strategy_id
        pnl = self._portfolio.strategy_pnl(strategy_id)
        positions = self._portfolio.strategy_positions(strategy_id)
        return {
            "name": hosted.config.name,
            "use": hosted.config.use,
            "state": hosted.state.value,
            "reason": hosted.reason,
            "instruments": list(hosted.context.instruments),
            "positions": {one.instrument_id: _plain(one.quantity) for one in positions},
            "net_pnl": _plain(pnl.net),
            "realized_pnl": _plain(pnl.realized),
            "unrealized_pnl": _plain(pnl.unrealized),
            "fees": _plain(pnl.fees),
            "open_orders": self._cache.open_count(strategy_id=strategy_id),
            "live_orders": self._cache.live_count(strategy_id=strategy_id),
            "closed_orders": len(self._cache.orders_closed(strategy_id=strategy_id)),
            "faults": hosted.faults,
        }


class _Hosted:
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
        self._bus = bus
        self._calls = topics.strategy_call(config.name)
        self._called: Subscription | None = None
        self._own: list[Subscription] = []
        self._market: list[Subscription] = []

    def enter(self, state: StrategyState, reason: str) -> None:
        """Note where the strategy stands now."""
        self.state = state
        self.reason = reason

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


def _structure_all(
    configs: Sequence[StrategyConfig], classes: Mapping[str, type[Strategy]], source: Source
) -> dict[str, Any]:
    """The parameters of the strategies in *classes*; one ConfigError for all that is wrong."""
    found, problems = {}, []
    for index, config in enumerate(configs):
        if config.name not in classes:
            continue
        place = source.at("strategies", index, "params")
        try:
            found[config.name] = structure_params(classes[config.name], config.params, place)
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    return found


def _plain(amount: Decimal) -> str:
    return f"{amount.normalize(ROUNDED):f}" if amount else "0"
