"""What the simulation looks for at the end of a daemon is noticed when it is there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.harness.machine import Machine
from tests.harness.memory_network import MemoryNetwork
from tests.simulation import strategies
from tests.simulation.strategies import ClockTrader, EventTrader, Watched, WatchedMaker
from zq_daemon.ports.disk import MemoryDisk
from zq_daemon.strategy.base import Strategy

pytestmark = pytest.mark.virtual


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[MemoryNetwork, Machine, trio.abc.Stream]]:
    """A machine with a connection to an exchange."""
    network = MemoryNetwork()
    await network.listen("exchange", 80)
    async with trio.open_nursery() as floor:
        machine = Machine(network, MemoryDisk(), floor)
        yield network, machine, await machine.network.connect("exchange", 80, tls=False)


async def test_a_machine_knows_what_was_not_closed() -> None:
    async with connected() as (_, machine, link):
        made = await machine.disk.create("a.log", 8)
        opened = await machine.disk.open("a.log")
        lock = await machine.disk.lock("lock")
        async with machine.network.listen_locally(Path("/run/zq.sock")):
            assert machine.left_open() == [
                "connection to exchange:80",
                "file a.log",
                "file a.log",
                "listener at zq.sock",
                "lock lock",
            ]
        for each in (link, made, opened, lock):
            await each.aclose()
        assert machine.left_open() == []


async def test_a_connection_that_broke_is_still_to_be_closed() -> None:
    async with connected() as (network, machine, link):
        await network.partition("exchange", 80)
        assert machine.left_open() == ["connection to exchange:80"]
        await link.aclose()
        assert machine.left_open() == []


@pytest.fixture
def heard() -> Iterator[list[str]]:
    strategies.heard_late.clear()
    yield strategies.heard_late
    strategies.heard_late.clear()


class _Context:
    strategy_id = "all"


HANDLERS = sorted({name for name in vars(Strategy) if name.startswith("on_")} - {"on_stop"})


@pytest.mark.parametrize("name", HANDLERS)
def test_every_handler_of_a_stopped_strategy_is_watched(name: str, heard: list[str]) -> None:
    calls: list[Any] = []
    kind: Any = type("All", (Watched,), {name: lambda _self, *told: calls.append(told)})
    strategy = kind(_Context(), None)
    getattr(strategy, name)("early")
    assert heard == []
    strategy.on_stop()
    getattr(strategy, name)("late")
    assert len(heard) == 1
    assert "all was stopped, and is told" in heard[0]
    assert calls == [("early",), ("late",)]


@pytest.mark.parametrize("kind", [WatchedMaker, EventTrader, ClockTrader])
def test_what_trades_in_the_simulation_is_watched(kind: type[Strategy]) -> None:
    overridden = [name for name in HANDLERS if getattr(kind, name) is not getattr(Strategy, name)]
    assert overridden
    assert all(hasattr(getattr(kind, name), "__wrapped__") for name in overridden)
