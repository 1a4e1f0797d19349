"""An exchange in a process of its own misbehaves as its file says, and changes when told to."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import trio_websocket

from tests.harness.process import RunningDaemon, free_port, running_command
from tests.service.exchange_rig import Client, connected_over_tcp
from tests.unit.exchange_rig import Rig, wire_order
from zq_daemon.ports.clock import SystemClock

NONCE = SystemClock().now_ns() // 1_000_000


async def cancel(rig: Rig, client: Client, cloid: str, nonce: int) -> Any:
    """The status of one cancel."""
    action = {"type": "cancelByCloid", "cancels": [{"asset": 0, "cloid": cloid}]}
    answer = await client.post(9, "action", rig.envelope(rig.alice, action, nonce=nonce))
    (status,) = answer["payload"]["response"]["data"]["statuses"]
    return status


async def reload(exchange: RunningDaemon, path: Path, text: str) -> dict[str, Any]:
    """Change the file and have it read; what the exchange logs of that."""
    path.write_text(text)
    seen = len(exchange.log)
    exchange.send_signal(signal.SIGHUP)
    return await exchange.wait_log(
        lambda line: str(line.get("event")).startswith("faults"), "faults", since=seen
    )


async def test_faults_of_a_file_are_in_force_and_can_be_changed(tmp_path: Path) -> None:
    rig, port, path = Rig(), free_port(), tmp_path / "faults.toml"
    path.write_text("cut_after_execute = 1\nforget_order_count = 1\n")
    order = wire_order("buy", "40000", "0.01", cloid=1)
    action = {"type": "order", "orders": [order], "grouping": "na"}
    query = {"type": "orderStatus", "user": rig.alice.address, "oid": order["c"]}
    arguments = ["exchange", "--port", str(port), "--seed", "1", "--faults", str(path)]
    arguments += ["--network", "mainnet"]
    async with running_command(arguments, tmp_path) as exchange:
        await exchange.wait_event("faults in force", cut_after_execute=1, forget_order_count=1)
        await exchange.wait_event("exchange open")
        async with connected_over_tcp(port) as client:
            with pytest.raises(trio_websocket.ConnectionClosed):
                await client.post(1, "action", rig.envelope(rig.alice, action, nonce=NONCE))
        async with connected_over_tcp(port) as client:
            told = [(await client.post(each, "info", query))["payload"]["data"] for each in (1, 2)]
            assert [each["status"] for each in told] == ["unknownOid", "order"]

            line = await reload(exchange, path, "cancel_latency_ms = 20\nrefuse_cancel_count = 1\n")
            assert (line["cancel_latency_ms"], line["refuse_cancel_count"]) == (20, 1)
            assert "cut_after_execute" not in line
            line = await reload(exchange, path, "cancel_latency = 20\n")
            assert line["level"] == "error"
            assert "did you mean 'cancel_latency_ms'" in line["reason"]
            assert "error" in await cancel(rig, client, order["c"], NONCE + 1)
            await reload(exchange, path, "")
            assert await cancel(rig, client, order["c"], NONCE + 2) == "success"
        assert await exchange.stop() == 0


async def test_a_file_that_cannot_be_used_ends_it_at_once(tmp_path: Path) -> None:
    path = tmp_path / "faults.toml"
    path.write_text("mute = 1\n")
    arguments = ["exchange", "--port", str(free_port()), "--faults", str(path)]
    async with running_command(arguments, tmp_path) as exchange:
        assert await exchange.wait_exit() == 78
    assert "faults.toml:1: mute: expected" in exchange.log[0]["text"]
