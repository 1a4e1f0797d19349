"""The exchange dies and comes back, as another process that knows nothing of the one before."""

from __future__ import annotations

import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.harness.process import (
    LogLine,
    RunningDaemon,
    demo_config,
    free_port,
    running_command,
    running_daemon,
)
from zq_daemon.control.client import request
from zq_daemon.venue.hyperliquid.sign import AgentKey

OUTAGE_S = 10
LINKS = ("market", "private")
SETTLED_S = 45
"""Longer than `order_validity_ms` and `not_found_span_ms` together."""
_ROUNDS = 5
"""After so many questions and answers a daemon has read what its sockets held before."""


def _config(folder: Path, port: int, *, extra: str = "") -> str:
    """The demo's, on an exchange that is not the daemon's own, with a key from a file."""
    key = f"0x{8:064x}"
    path = folder / "agent.key"
    path.touch(mode=0o600)
    path.write_text(key)
    account = f'key_file = "{path}"\naccount = "{AgentKey.from_text(key).address}"\n\n[log]'
    config = demo_config(port, extra=extra).replace("[log]", account)
    config = re.sub("reconnect_(base|max)_ms = .*", "", config)
    return config.replace("enabled = true", "enabled = false")


@asynccontextmanager
async def _exchange(port: int, folder: Path) -> AsyncIterator[trio.Process]:
    async with running_command(["exchange", "--port", str(port), "--seed", "7"], folder) as running:
        await running.wait_event("exchange open")
        yield running.process


async def _kill(process: trio.Process) -> None:
    process.kill()
    await process.wait()


async def _kill_at_rest(exchange: trio.Process, daemon: RunningDaemon) -> None:
    """Kill it at a moment in which it owes the daemon nothing that would be lost with it."""
    while True:
        exchange.send_signal(signal.SIGSTOP)
        if not any([await _awaited(daemon) for _ in range(_ROUNDS)]):
            return await _kill(exchange)
        exchange.send_signal(signal.SIGCONT)
        await trio.sleep(0.1)


async def _awaited(daemon: RunningDaemon) -> int:
    """Of how many orders it waits for news."""
    execution = (await daemon.status())["execution"]
    return int(execution["in_flight"]) + int(execution["queued"])


async def _wait_backoff(daemon: RunningDaemon) -> dict[str, Any]:
    """Its status when no link is just trying to connect."""
    while True:
        status = await daemon.status()
        if {link["state"] for link in status["links"]} == {"backoff"}:
            return status
        await trio.sleep(0.02)


@pytest.mark.patience(120)
async def test_trading_goes_on_after_ten_seconds_without_the_exchange(tmp_path: Path) -> None:
    port = free_port()
    # The second exchange knows nothing of the first one's trades: positions differ for good.
    extra = 'on_position_difference = "report"'
    async with running_daemon_and_exchange(tmp_path, port, extra) as (daemon, exchange):
        before = {link["endpoint"]: link["outage_s"] for link in (await daemon.status())["links"]}
        lost_at, was_up_s = len(daemon.log), trio.current_time()
        await _kill_at_rest(exchange, daemon)
        for name in LINKS:
            await daemon.wait_event("link backoff", endpoint=name, since=lost_at)
        was_down_s = trio.current_time()
        await daemon.wait_events(2, "link backoff", endpoint="market", since=lost_at)
        during = await _wait_backoff(daemon)
        await trio.sleep_until(was_down_s + OUTAGE_S)
        async with _exchange(port, tmp_path):
            for name in LINKS:
                await daemon.wait_event("link up", endpoint=name, since=lost_at)
            came_back, is_up_s = len(daemon.log), trio.current_time()
            await daemon.wait_event("order filled", since=came_back)
            await daemon.wait_event("order accepted", strategy="maker", since=came_back)
            # What rested there before is gone with the exchange; others it cancels as usual.
            await daemon.wait_log(
                lambda line: (
                    line.get("event") == "order canceled"
                    and line.get("strategy") == "maker"
                    and "not at the venue" in str(line.get("reason"))
                ),
                "a quote of the maker that is no more at the venue",
                since=came_back,
            )
            after = await daemon.status()
            # What was sent into the kill stays in doubt until its validity is over, and longer.
            with trio.fail_after(SETTLED_S):
                while await _awaited(daemon):
                    await trio.sleep(0.1)
            assert await daemon.stop() == 0
    for link in during["links"]:
        assert link["state"] == "backoff"
        assert link["outage_s"] > 0
        assert link["next_attempt_s"] >= 0
        assert re.search("cannot connect|connection closed", link["last_error"])
    assert [one["stale"] for one in during["market"]] == [True]
    for link in after["links"]:
        assert (link["state"], link["reconnects"]) == ("up", 1)
        assert OUTAGE_S <= link["outage_s"] - before[link["endpoint"]] <= is_up_s - was_up_s
        assert all(link["streams"].values())
    assert [one["stale"] for one in after["market"]] == [False]
    assert {one["state"] for one in after["strategies"]} == {"running"}
    for name in LINKS:
        _assert_on_schedule([line for line in daemon.log if line.get("endpoint") == name])


async def test_without_auto_reconnect_a_lost_link_halts_the_strategies(tmp_path: Path) -> None:
    extra = "auto_reconnect = false\nshutdown_grace_ms = 1500"
    async with running_daemon_and_exchange(tmp_path, free_port(), extra) as (daemon, exchange):
        await _kill(exchange)
        for name in LINKS:
            line = await daemon.wait_event("link down", endpoint=name)
            assert line["reason"].endswith("auto_reconnect is off")
        for name in ("trend", "maker"):
            await daemon.wait_event("strategy halted", strategy=name)
        status = await daemon.status()
        unverified = (await request(tmp_path / "var" / "control.sock", "orders"))["total"]
        code = await daemon.stop()
    assert {link["state"] for link in status["links"]} == {"down"}
    assert {link["reconnects"] for link in status["links"]} == {0}
    for strategy in status["strategies"]:
        assert strategy["state"] == "halted"
        assert re.match("link (market|private) is down: ", strategy["reason"])
    # Nobody can say what became of what rested or was on its way: that is told, and no success.
    assert unverified > 0
    assert code == 3
    stopped = await daemon.wait_event("stopped")
    assert stopped["orders"] == f"0 cancelled, {unverified} unverified"


@asynccontextmanager
async def running_daemon_and_exchange(
    folder: Path, port: int, extra: str = ""
) -> AsyncIterator[tuple[RunningDaemon, trio.Process]]:
    """Both at work: orders are filled, and the market maker quotes both sides."""
    config = _config(folder, port, extra=extra)
    async with _exchange(port, folder) as exchange, running_daemon(folder, config) as daemon:
        await daemon.wait_events(2, "order accepted", strategy="maker")
        await daemon.wait_event("order filled")
        yield daemon, exchange


def _assert_on_schedule(lines: list[LogLine]) -> None:
    """Each attempt waits twice as long as the one before, less up to a quarter, and not less."""
    lost = [number for number, line in enumerate(lines) if line["event"] == "link backoff"]
    assert len(lost) >= 4
    for attempt, number in enumerate(lost):
        told = re.search(r"; next attempt in (\d+) ms$", lines[number]["reason"])
        assert told is not None
        delay_ms, full_ms = int(told[1]), 1_000 * 2**attempt
        assert 0.75 * full_ms <= delay_ms <= full_ms
        again = lines[number + 1]
        assert again["event"] == "link connecting"
        waited_ms = (_time(again) - _time(lines[number])).total_seconds() * 1_000
        assert delay_ms - 5 <= waited_ms <= delay_ms + 3_000


def _time(line: LogLine) -> datetime:
    return datetime.fromisoformat(line["timestamp"])
