"""Paper trading whole: a venue, an exchange that follows it, and a daemon that trades there."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from tests.harness.process import (
    RunningDaemon,
    demo_config,
    free_port,
    running_command,
    running_daemon,
)
from tests.service.exchange_rig import http
from zq_daemon.venue.hyperliquid.sign import AgentKey


@asynccontextmanager
async def exchange(folder: Path, port: int, *arguments: str) -> AsyncIterator[RunningDaemon]:
    """`zq-daemon exchange` at *port*, open."""
    command = ["exchange", "--port", str(port), *arguments]
    async with running_command(command, folder) as running:
        await running.wait_event("exchange open")
        yield running


async def ask(port: int, kind: str, **query: Any) -> Any:
    """What the exchange at *port* answers."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        raw = await http(stream, "/info", json.dumps({"type": kind, **query}).encode())
    return json.loads(raw.partition(b"\r\n\r\n")[2])


def with_key(folder: Path, config: str) -> tuple[str, str]:
    """*config* with a key and without an exchange of its own; and the key's address."""
    key = f"0x{9:064x}"
    path = folder / "agent.key"
    path.touch(mode=0o600)
    path.write_text(key)
    address = AgentKey.from_text(key).address
    config = config.replace("enabled = true", "enabled = false")
    return config.replace("[log]", f'key_file = "{path}"\naccount = "{address}"\n\n[log]'), address


def url(port: int) -> str:
    return f"http://127.0.0.1:{port}"


async def test_a_daemon_trades_on_paper_and_goes_on_when_the_venue_has_been_away(
    tmp_path: Path,
) -> None:
    venue_port, paper_port = free_port(), free_port()
    config, address = with_key(tmp_path, demo_config(paper_port))
    async with (
        exchange(tmp_path, venue_port, "--seed", "7") as venue,
        exchange(
            tmp_path, paper_port, "--follow", url(venue_port), "--order-latency-ms", "20"
        ) as paper,
        running_daemon(tmp_path, config) as daemon,
    ):
        await daemon.wait_events(2, "order accepted", strategy="maker")
        await daemon.wait_event("order filled", strategy="trend")
        venue.process.kill()
        await venue.wait_exit()
        await paper.wait_event("followed venue lost")
        lost = len(paper.log)
        async with exchange(tmp_path, venue_port, "--seed", "8"):
            await paper.wait_event("venue followed", since=lost)
            seen = len(daemon.log)
            await daemon.wait_event("order filled", since=seen)
            assert await daemon.stop() == 0
            fills = await ask(paper_port, "userFills", user=address)
            assert await ask(venue_port, "userFills", user=address) == []
            assert await ask(paper_port, "openOrders", user=address) == []
        told = [line for line in daemon.log if line.get("event") == "order filled"]
        assert len({line["trade_id"] for line in told}) == len(fills)
        assert await paper.stop() == 0


async def test_a_daemons_own_exchange_follows(tmp_path: Path) -> None:
    venue_port, paper_port = free_port(), free_port()
    follow = f'follow = "{url(venue_port)}"\norder_latency_ms = 20'
    config = re.sub("seed = 7", follow, demo_config(paper_port))
    async with (
        exchange(tmp_path, venue_port, "--seed", "7"),
        running_daemon(tmp_path, config) as daemon,
    ):
        for name in ("trend", "maker"):
            await daemon.wait_event("order accepted", strategy=name)
        await daemon.wait_event("order filled", strategy="trend")
        assert await ask(paper_port, "meta") == await ask(venue_port, "meta")
        assert await daemon.stop() == 0
    stopped = await daemon.wait_event("stopped")
    assert stopped["orders"].endswith("0 unverified")


async def test_a_venue_that_is_not_there_cannot_be_followed(tmp_path: Path) -> None:
    port = free_port()
    arguments = ["exchange", "--port", str(free_port()), "--follow", url(port)]
    async with running_command(arguments, tmp_path) as running:
        assert await running.wait_exit() == 69
    assert running.log[0]["text"] == f"cannot connect to 127.0.0.1:{port}: Connection refused"
