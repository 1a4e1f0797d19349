"""Tells a failure so that a person can follow it: what happened to the order, and around it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from attrs import asdict

from tests.simulation.world import Told, World

_CLOID = re.compile(r"0x[0-9a-f]{32}\b")
_MOST = 400
_MOST_ORDERS = 3
_UNSAID = ("client_order_id", "instrument_id", "strategy_id", "ts_event_ns")


def orders_in(wrong: list[str]) -> list[str]:
    """The client order ids that complaints name, the first few."""
    found = dict.fromkeys(cloid for problem in wrong for cloid in _CLOID.findall(problem))
    return list(found)[:_MOST_ORDERS]


def timeline(world: World, order: str) -> list[str]:
    """What happened to *order*, with faults, lives and what was wrong, in order of time."""
    lines = list(_lines(world, order))
    return lines if len(lines) <= _MOST else [*lines[:_MOST], "..."]


def _lines(world: World, order: str) -> Iterator[str]:
    life = 0
    for told in world.told:
        if told.order not in ("", order):
            continue
        if told.life != life:
            life = told.life
            yield f"--- life {life}"
        yield f"{told.at_s:9.3f} s  {_words(told)}"


def _words(told: Told) -> str:
    if isinstance(told.what, str):
        return told.what
    terms = asdict(told.what, recurse=False)  # type: ignore[call-overload]
    said = " ".join(f"{key}={value}" for key, value in terms.items() if key not in _UNSAID)
    return f"{type(told.what).__name__} {said}"
