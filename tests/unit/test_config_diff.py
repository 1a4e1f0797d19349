"""What a reload can take over, and what needs a restart."""

from __future__ import annotations

from decimal import Decimal

from attrs import evolve

from zq_daemon.config.diff import ConfigDiff, diff_config
from zq_daemon.config.schema import (
    DaemonConfig,
    LogConfig,
    RiskConfig,
    StrategyConfig,
    WsEndpointConfig,
)


def strategy(name: str, **more: object) -> StrategyConfig:
    return StrategyConfig(name=name, use="m:C", instruments=("hyperliquid.BTC",), **more)  # type: ignore[arg-type]


OLD = DaemonConfig(
    strategies=(strategy("a", params={"fast": 1, "slow": 2}), strategy("b")),
    ws_endpoints=(WsEndpointConfig(url="ws://h", streams=("trades:BTC",)),),
)


def test_nothing_differs() -> None:
    assert not diff_config(OLD, OLD)


def test_what_is_reloadable() -> None:
    new = evolve(
        OLD,
        tick_interval_ms=100,
        risk=RiskConfig(
            max_leverage=None, max_order_quantity={"hyperliquid.BTC": Decimal(1)}, max_open_orders=3
        ),
        log=LogConfig(level="debug"),
        strategies=(strategy("a", params={"fast": 3, "extra": 1}), strategy("b")),
    )
    found = diff_config(OLD, new)
    assert found.needs_restart == ()
    assert found.reloadable == (
        "tick_interval_ms",
        "strategies[0].params.extra",
        "strategies[0].params.fast",
        "strategies[0].params.slow",
        'risk.max_order_quantity."hyperliquid.BTC"',
        "risk.max_leverage",
        "risk.max_open_orders",
        "log.level",
    )


def test_what_becomes_of_a_fault_is_reloadable() -> None:
    old = evolve(OLD, strategies=(strategy("a"), strategy("b")))
    new = evolve(OLD, strategies=(strategy("a"), strategy("b", on_fault="hold")))
    found = diff_config(old, new)
    assert found == ConfigDiff(("strategies[1].on_fault",), ())
    assert found.without([1]) == ConfigDiff((), ("strategies[1].on_fault",))


def test_what_needs_a_restart() -> None:
    new = evolve(
        OLD,
        heartbeat_interval_ms=1,
        log=LogConfig(format="json"),
        strategies=(strategy("a", params=OLD.strategies[0].params), strategy("b", bars=("1m",))),
        ws_endpoints=(evolve(OLD.ws_endpoints[0], streams=("trades:BTC", "bbo:BTC")),),
    )
    found = diff_config(OLD, new)
    assert found
    assert found.reloadable == ()
    assert found.needs_restart == (
        "heartbeat_interval_ms",
        "ws_endpoints[0].streams",
        "strategies[1].bars",
        "log.format",
    )


def test_strategies_that_hear_nothing_need_a_restart() -> None:
    new = evolve(
        OLD,
        tick_interval_ms=5,
        strategies=(strategy("a", params={"fast": 3, "slow": 2}), strategy("b", params={"x": 1})),
    )
    found = diff_config(OLD, new)
    assert found.without(()) == found
    assert found.without([0]) == ConfigDiff(
        ("tick_interval_ms", "strategies[1].params.x"), ("strategies[0].params.fast",)
    )


def test_other_strategies_or_another_order_need_a_restart() -> None:
    for strategies in ((), OLD.strategies[:1], OLD.strategies[::-1]):
        found = diff_config(OLD, evolve(OLD, strategies=strategies))
        assert found.needs_restart == ("strategies",)
        assert found.reloadable == ()
