"""The exchange dies and comes back, as another process that knows nothing of the one before."""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import trio

from tests.harness.process import (
    LogLine,
    RunningDaemon,
    demo_config,
    free_port,
    running_command,
    running_daemon,
)
from zq_daemon.venue.hyperliquid.sign import AgentKey

OUTAGE_S = 10
LINKS = ("market", "private")


def _config(folder: Path, port: int, *, extra: str = "") -> str:
    """The demo's, on an exchange that is not the daemon's own, with a key from a file."""
    key = f"0x{secrets.token_hex(32)}"
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


async def _links(daemon: RunningDaemon) -> dict[str, dict[str, Any]]:
    return {link["endpoint"]: link for link in (await daemon.status())["links"]}


async def test_trading_goes_on_after_ten_seconds_without_the_exchange(tmp_path: Path) -> None:
    port = free_port()
    async with running_daemon_and_exchange(tmp_path, port) as (daemon, exchange):
        lost_at, killed_at = len(daemon.log), trio.current_time()
        await _kill(exchange)
        await daemon.wait_events(2, "link backoff", endpoint="market", since=lost_at)
        during = await daemon.status()
        await trio.sleep_until(killed_at + OUTAGE_S)
        async with _exchange(port, tmp_path):
            for name in LINKS:
                await daemon.wait_event("link up", endpoint=name, since=lost_at)
            came_back = len(daemon.log)
            await daemon.wait_event("order filled", since=came_back)
            await daemon.wait_event("order accepted", strategy="maker", since=came_back)
            gone = await daemon.wait_event("order canceled", strategy="maker", since=came_back)
            after = await daemon.status()
            assert await daemon.stop() == 0
    for link in during["links"]:
        assert link["state"] == "backoff"
        assert link["outage_s"] > 0
        assert link["next_attempt_s"] > 0
        assert re.search("cannot connect|connection closed", link["last_error"])
    assert [one["stale"] for one in during["market"]] == [True]
    for link in after["links"]:
        assert (link["state"], link["reconnects"]) == ("up", 1)
        assert OUTAGE_S <= link["outage_s"] <= 1.5 * OUTAGE_S + 2
        assert all(link["streams"].values())
    assert [one["stale"] for one in after["market"]] == [False]
    assert {one["state"] for one in after["strategies"]} == {"running"}
    assert "not at the venue" in gone["reason"]
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
        code = await daemon.stop()
    assert {link["state"] for link in status["links"]} == {"down"}
    assert {link["reconnects"] for link in status["links"]} == {0}
    for strategy in status["strategies"]:
        assert strategy["state"] == "halted"
        assert re.match("link (market|private) is down: ", strategy["reason"])
    # Nobody can say what became of the maker's quotes: that is told, and is no success.
    unverified = status["orders"]["open"]
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
        assert delay_ms - 5 <= waited_ms <= delay_ms + 1_000


def _time(line: LogLine) -> datetime:
    return datetime.fromisoformat(line["timestamp"])
