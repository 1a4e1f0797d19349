"""Runs the strategies: loads, starts, stops and reloads them, and contains what they do wrong.

Owns each strategy's subscriptions, state and timers, and what becomes of the orders of those that
fail. A strategy's own code is only ever called through the bus, so that whatever it raises becomes
a fault of its owner, the strategy. It never trades, but for flattening a faulted strategy that is
configured so (`strategy.flatten`). The daemon loads, starts and stops it, calls `on_clock` from
housekeeping and `on_fault` from the bus, and halts strategies whose links are gone.

`on_fault` of the configuration is for faults only, where nobody knows any more what the strategy
wants. A halt is no fault: the strategy is sound and hears of its orders, but it is blind, so that
its orders are cancelled, whatever `on_fault` says, and its position is left to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, assert_never

import structlog
from attrs import evolve

from zq_daemon.config.schema import StrategyConfig
from zq_daemon.config.source import Source
from zq_daemon.core.bus import Fault, MessageBus
from zq_daemon.core.cache import Cache
from zq_daemon.core.portfolio import Portfolio
from zq_daemon.engine.health import tell_health
from zq_daemon.errors import ConfigError, StrategyError
from zq_daemon.journal.record import StrategySaved
from zq_daemon.model.bar import BarSpec
from zq_daemon.model.command import CancelAllOrders
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
from zq_daemon.strategy.flatten import Flattening
from zq_daemon.strategy.hosted import Hosted, StrategyState
from zq_daemon.strategy.load import Blame, load_class, structure_params
from zq_daemon.strategy.saved import repack
from zq_daemon.strategy.saving import Saving

_log = structlog.get_logger("zq.strategies")

_CONFIGURATION = Source(name="configuration")


_DAEMON = "daemon"
_WHY_NOT_RESUMED = {
    StrategyState.LOADED: "has not started yet: it is not halted",
    StrategyState.RUNNING: "runs: it is not halted",
    StrategyState.FAULTED: "is faulted and cannot be resumed: correct it and restart the daemon",
    StrategyState.STOPPED: "is stopped: the daemon is stopping",
}


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
        save: Callable[[StrategySaved], None],
        has_room: Callable[[], bool],
        saved: Mapping[StrategyId, StrategySaved],
    ) -> None:
        """*accounts* names the account by venue, *mint* makes client order ids, *add_bars* bars.

        *save* writes what strategies save, while the journal *has_room*; *saved* is what former
        runs saved. What *save* raises is a fault of the daemon, not of the strategy.
        """
        self._bus = bus
        self._cache = cache
        self._portfolio = portfolio
        self._clock = clock
        self._accounts = accounts
        self._mint = mint
        self._add_bars = add_bars
        self._saved = saved
        self._hosted: dict[StrategyId, Hosted] = {}
        self._saving = Saving(save, has_room, self._hosted.keys())
        bus.handle("strategy.save", self._saving.take, owner=_DAEMON)

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
        """Start all that are loaded, in order; one that raises is FAULTED, the others live.

        Orders of former runs are in the cache by now. Those of strategies that are not here any
        more, or in instruments that theirs has no more, are cancelled: nobody looks after them.
        """
        self._cancel_orphans()
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
            if hosted.flattening is not None:
                hosted.flattening.abandon()
                hosted.flattening = None
            if hosted.state is not StrategyState.FAULTED:
                hosted.enter(StrategyState.STOPPED, "")

    def on_clock(self, now_ns: int) -> None:
        """Fire what timers are due, go on flattening, write what strategies saved and still waits.

        *now_ns* is not read: the clock port is. JournalError when the journal has failed.
        """
        for hosted in self._hosted.values():
            self._fire_timers(hosted)
            if hosted.flattening is not None:
                hosted.flattening.on_clock()
        self._saving.write()

    def write_saved(self) -> bool:
        """Write what strategies saved, as far as there is room; whether nothing waits any more."""
        return self._saving.write()

    def on_fault(self, fault: Fault) -> bool:
        """Contain a fault of a strategy of ours; False if *fault* is somebody else's.

        The strategy is unsubscribed and may not submit. Its live orders are cancelled, held as they
        are, or cancelled to close its position then, as its `on_fault` says.
        """
        hosted = self._hosted.get(StrategyId(fault.owner))
        if hosted is None:
            return False
        hosted.faults += 1
        if hosted.state is StrategyState.FAULTED:
            return True
        reason = f"{fault.topic}: {type(fault.error).__name__}: {fault.error}"
        _log.error(
            "strategy faulted",
            strategy=fault.owner,
            reason=reason,
            on_fault=hosted.config.on_fault,
            live_orders=self._cache.live_count(strategy_id=hosted.context.strategy_id),
            exc_info=fault.error,
        )
        hosted.silence()
        hosted.context.permit("it is faulted")
        hosted.enter(StrategyState.FAULTED, reason)
        self._follow_policy(hosted)
        self._tell_health(hosted, healthy=False)
        return True

    def halt(self, name: str, reason: str) -> None:
        """Let a strategy hear no market and submit nothing until it is resumed.

        Its live orders are cancelled, once a link is there to ask by, and whatever its `on_fault`
        says; it still hears of its orders and fills. One that has not been started will not be
        until it is resumed.
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
        """An operator lets a halted strategy go on where it was, or start if it had not.

        What it was halted for is not looked at again: where its link is still gone, its orders are
        denied. StrategyError when there is no halted strategy of that name, and when resuming it
        made it fault.
        """
        hosted = self._hosted.get(StrategyId(name))
        if hosted is None:
            known = ", ".join(self._hosted) or "none"
            raise StrategyError(f"no strategy {name!r}; there are: {known}")
        if hosted.state is not StrategyState.HALTED:
            detail = f" ({hosted.reason})" if hosted.reason else ""
            raise StrategyError(f"strategy {name} {_WHY_NOT_RESUMED[hosted.state]}{detail}")
        _log.info("strategy resumed", strategy=name, halted_for=hosted.reason)
        self._run(hosted)
        if self.state(name) is not StrategyState.RUNNING:
            raise StrategyError(f"strategy {name} faulted as it was resumed: {hosted.reason}")
        self._tell_health(hosted, healthy=True)

    def reload(
        self, configs: Sequence[StrategyConfig], source: Source = _CONFIGURATION
    ) -> tuple[str, ...]:
        """Hand changed parameters to the strategies that are loaded; names of those that took them.

        They also go by their `on_fault` as it is in *configs* from here on.

        ConfigError, with nothing changed, if any are wrong. Strategies that are new, gone, of
        another class, or `deaf` need a restart and are left alone.
        """
        known = [config for config in configs if self._is_same(config)]
        classes = {
            config.name: type(self._hosted[StrategyId(config.name)].strategy) for config in known
        }
        params = _structure_all(configs, classes, source)
        for config in known:
            if config.name not in self.deaf():
                hosted = self._hosted[StrategyId(config.name)]
                hosted.config = evolve(hosted.config, on_fault=config.on_fault)
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
        saved = self._saved.get(strategy_id)
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
            saved=None if saved is None else repack(saved.version, saved.data),
        )
        with Blame(config.name, "making it"):
            strategy = cls(context, params)
        self._hosted[strategy_id] = Hosted(config, strategy, context, self._bus)

    def _run(self, hosted: Hosted) -> None:
        hosted.context.permit(None)
        hosted.enter(StrategyState.RUNNING, "")
        hosted.listen(self._cache)
        if not hosted.started:
            hosted.started = True
            self._tell_taken_over(hosted)
            hosted.call(hosted.strategy.on_start)

    def _fire_timers(self, hosted: Hosted) -> None:
        """Those that are due; once it runs no more, the rest waits."""
        if hosted.state is not StrategyState.RUNNING:
            return
        for timer in hosted.context.due_timers():
            hosted.call(timer.callback)
            if hosted.state is not StrategyState.RUNNING:
                return

    def _is_same(self, config: StrategyConfig) -> bool:
        hosted = self._hosted.get(StrategyId(config.name))
        return hosted is not None and config.enabled and hosted.config.use == config.use

    def _users(self, instruments: Collection[InstrumentId] | None) -> tuple[StrategyId, ...]:
        return tuple(
            name
            for name, hosted in self._hosted.items()
            if instruments is None or set(instruments) & set(hosted.context.instruments)
        )

    def _tell_taken_over(self, hosted: Hosted) -> None:
        """What a former run left, if anything: the strategy finds it in its context."""
        orders = self._cache.live_count(strategy_id=hosted.context.strategy_id)
        positions = self._positions(hosted)
        if orders or any(amount != "0" for amount in positions.values()):
            _log.info(
                "strategy takes over",
                strategy=hosted.config.name,
                live_orders=orders,
                positions=positions,
            )

    def _cancel_orphans(self) -> None:
        orphans: Counter[tuple[StrategyId, InstrumentId]] = Counter()
        for order in self._cache.orders_live():
            hosted = self._hosted.get(order.strategy_id)
            if order.strategy_id in RESERVED_OWNERS or (
                hosted is not None and order.instrument_id in hosted.context.instruments
            ):
                continue
            orphans[order.strategy_id, order.instrument_id] += 1
        for (strategy_id, instrument_id), count in orphans.items():
            _log.warning(
                "orders of a former run that no strategy looks after: they are cancelled",
                strategy=strategy_id,
                instrument=instrument_id,
                orders=count,
            )
            command = CancelAllOrders(strategy_id=strategy_id, instrument_id=instrument_id)
            self._bus.send("order.cancel_all", command)

    def _follow_policy(self, hosted: Hosted) -> None:
        """What becomes of a faulted strategy's orders and position."""
        match hosted.config.on_fault:
            case "cancel":
                self._cancel_orders(hosted)
            case "hold":
                pass
            case "flatten":
                self._cancel_orders(hosted)
                hosted.flattening = Flattening(
                    hosted.context,
                    bus=self._bus,
                    cache=self._cache,
                    portfolio=self._portfolio,
                    clock=self._clock,
                    on_given_up=partial(self._tell_health, hosted, healthy=False),
                )
            case unreachable:
                assert_never(unreachable)

    def _cancel_orders(self, hosted: Hosted) -> None:
        strategy_id = hosted.context.strategy_id
        if self._cache.live_count(strategy_id=strategy_id):
            self._bus.send("order.cancel_all", CancelAllOrders(strategy_id=strategy_id))

    def _tell_health(self, hosted: Hosted, *, healthy: bool) -> None:
        component = f"strategy:{hosted.config.name}"
        tell_health(self._bus, self._clock, component, hosted.told(), healthy=healthy)

    def _status(self, hosted: Hosted) -> dict[str, Any]:
        strategy_id = hosted.context.strategy_id
        pnl = self._portfolio.strategy_pnl(strategy_id)
        return {
            "name": hosted.config.name,
            "use": hosted.config.use,
            "state": hosted.state.value,
            "reason": hosted.told(),
            "on_fault": hosted.config.on_fault,
            "instruments": list(hosted.context.instruments),
            "positions": self._positions(hosted),
            "net_pnl": _plain(pnl.net),
            "realized_pnl": _plain(pnl.realized),
            "unrealized_pnl": _plain(pnl.unrealized),
            "fees": _plain(pnl.fees),
            "open_orders": self._cache.open_count(strategy_id=strategy_id),
            "live_orders": self._cache.live_count(strategy_id=strategy_id),
            "closed_orders": len(self._cache.orders_closed(strategy_id=strategy_id)),
            "faults": hosted.faults,
        }

    def _positions(self, hosted: Hosted) -> dict[str, str]:
        held = self._portfolio.strategy_positions(hosted.context.strategy_id)
        return {one.instrument_id: _plain(one.quantity) for one in held}


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
