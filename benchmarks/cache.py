"""The cache: look-ups, and open orders among a hundred and among ten thousand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks import values
from benchmarks.measure import Case, Scale, nanoseconds
from benchmarks.report import Row, compared, duration
from zq_daemon.core.cache import Cache
from zq_daemon.model.ids import StrategyId
from zq_daemon.model.order import Order

FEW, MANY = 100, 10_000


def run(scale: Scale) -> Iterator[Row]:
    """Look-ups, then three questions about open orders."""
    small, large = values.cache_with_orders(FEW), values.cache_with_orders(MANY)
    yield from _lookups(large, scale)
    yield from _open_orders("open orders, all: the answer", "orders_open()", small, large, scale)
    yield from _open_orders(
        "open orders, one strategy's ten: all read",
        "list(orders_open(strategy_id=few))",
        small,
        large,
        scale,
    )
    yield from _open_orders("open orders: their count", "len(orders_open())", small, large, scale)


def _lookups(cache: Cache, scale: Scale) -> Iterator[Row]:
    cache.put_trade(values.trade())
    wanted = values.order(MANY // 2, "many")
    names: dict[str, Any] = {
        "cache": cache,
        "cloid": wanted.client_order_id,
        "iid": values.BTC,
        "orders": {each.client_order_id: each for each in cache.orders_open()},
    }
    taken = nanoseconds(
        {
            "order": Case("cache.order(cloid)", names),
            "trade": Case("cache.trade(iid)", names),
            "bare dictionary": Case("orders.get(cloid)", names),
        },
        scale,
    )
    floor = taken["bare dictionary"]
    yield Row(
        name=f"cache: an order of {MANY:,} by client order id",
        figure=duration(taken["order"]),
        against=compared("bare dictionary", floor, taken["order"]),
    )
    yield Row(
        name="cache: the latest trade",
        figure=duration(taken["trade"]),
        against=compared("bare dictionary", floor, taken["trade"]),
    )


def _open_orders(
    name: str, statement: str, small: Cache, large: Cache, scale: Scale
) -> Iterator[Row]:
    """The question asked of both caches, and of a list that is filtered when asked."""
    taken = nanoseconds(
        {
            "small": Case(statement, _own(small)),
            "large": Case(statement, _own(large)),
            "small filter": Case(statement, _filtering(small)),
            "large filter": Case(statement, _filtering(large)),
        },
        scale,
    )
    for count, key in ((FEW, "small"), (MANY, "large")):
        flat = "" if key == "small" else f"{taken['large'] / taken['small']:.2f}x of {FEW}; "
        filtered = compared("filter when asked", taken[f"{key} filter"], taken[key])
        yield Row(
            name=f"{name}, {count:,} open", figure=duration(taken[key]), against=flat + filtered
        )


def _own(cache: Cache) -> dict[str, Any]:
    return {"orders_open": cache.orders_open, "few": StrategyId("few")}


def _filtering(cache: Cache) -> dict[str, Any]:
    every = list(cache.orders_open())

    def orders_open(strategy_id: StrategyId | None = None) -> list[Order]:
        return [
            each
            for each in every
            if each.is_open and (strategy_id is None or each.strategy_id == strategy_id)
        ]

    return {"orders_open": orders_open, "few": StrategyId("few")}
