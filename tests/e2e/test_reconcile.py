"""Reconciliation as an operator sees it: a real daemon, a real exchange, real faults."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.e2e.test_operator import _QUIET, Terminal
from tests.harness.process import (
    RunningDaemon,
    demo_config,
    free_port,
    running_command,
    running_daemon,
)
from zq_daemon.exit_codes import ExitCode
from zq_daemon.venue.hyperliquid.sign import AgentKey


@asynccontextmanager
async def exchange(folder: Path, port: int) -> AsyncIterator[RunningDaemon]:
    """The exchange alone; what it does wrong is written into *folder*/faults.toml."""
    faults = folder / "faults.toml"
    faults.write_text("")
    arguments = ["exchange", "--port", str(port), "--seed", "7", "--faults", str(faults)]
    async with running_command(arguments, folder) as running:
        await running.wait_event("exchange open")
        yield running


async def misbehave(running: RunningDaemon, folder: Path, faults: str) -> None:
    since = len(running.log)
    (folder / "faults.toml").write_text(faults)
    running.send_signal(signal.SIGHUP)
    await running.wait_event("faults in force", since=since)


def configured(folder: Path, port: int, *, quiet: bool, span_ms: int) -> str:
    """The demo's on an exchange of its own; quick to find out that an answer does not come.

    *span_ms*: over how long the venue has to deny an order until it counts as gone.
    """
    key = folder / "key"
    key.touch(mode=0o600)
    key.write_text("0x" + "11" * 32)
    account = AgentKey(bytes([0x11]) * 32).address
    signer = f'account = "{account}"\nkey_file = "{key}"\npost_timeout_ms = 1000\n'
    extra = f"reconcile_interval_ms = 15000\nnot_found_span_ms = {span_ms}"
    text = demo_config(port, extra=extra).replace("enabled = true", "")
    text = text.replace('spread_bps = "2"', _QUIET) if quiet else text
    return text.replace("[venues.hyperliquid]\n", f"[venues.hyperliquid]\n{signer}")


async def unknown(at: Terminal, count: int) -> list[dict[str, Any]]:
    """The maker's orders in doubt, once there are so many."""
    while True:
        told = await at.read("orders", "--unknown", "--strategy", "maker")
        if told["total"] == count:
            return told["orders"]  # type: ignore[return-value]
        await trio.sleep(0.1)


@pytest.mark.patience(180)
async def test_what_is_in_doubt_is_listed_and_settled(tmp_path: Path) -> None:
    port = free_port()
    # The orders are gone: no number of commands, each a process, is to outlast the doubt of it.
    config = configured(tmp_path, port, quiet=True, span_ms=600_000)
    async with (
        exchange(tmp_path, port) as venue,
        running_daemon(tmp_path, config) as daemon,
    ):
        await daemon.wait_events(2, "order accepted", strategy="maker")
        at = Terminal(daemon, tmp_path)
        faults = "drop_replies = true\ndrop_private = true\nforget_orders = true\n"
        await misbehave(venue, tmp_path, faults)
        asked = await at.type("cancel-all", "--no-wait", "--strategy", "maker")
        doubted = await unknown(at, 2)
        drawn = await at.type("orders", "--unknown", "--strategy", "maker")
        dry = await at.read("reconcile", "--dry-run")
        shown = await at.type("reconcile", "--dry-run")
        still = await at.read("orders", "--unknown", "--strategy", "maker")
        await misbehave(venue, tmp_path, "")
        done = await at.type("reconcile")
        await unknown(at, 0)
        assert await daemon.stop() == ExitCode.OK
    assert asked.code == ExitCode.OK
    ids = {row["client_order_id"] for row in doubted}
    for row in doubted:
        assert row["pending"] == "cancel"
        assert row["doubt"]["why"]
        assert row["doubt"]["negatives_needed"] == 3
    assert "in doubt for" in drawn.out
    assert "awaited: " in drawn.out
    kinds = {each["order"]: each["kind"] for each in dry["differences"]}  # type: ignore[attr-defined]
    assert {kinds[each] for each in ids} == {"denied order"}
    assert dry["dry_run"] is True
    assert "ask about it" in shown.out
    assert "nothing was changed: it was a dry run" in shown.out
    assert {row["client_order_id"] for row in still["orders"]} == ids  # type: ignore[attr-defined]
    assert done.code == ExitCode.OK, done.err
    assert "done: " in done.out


@pytest.mark.patience(180)
async def test_positions_of_a_venue_that_forgot_them_halt_until_they_are_taken_over(
    tmp_path: Path,
) -> None:
    port = free_port()
    # What was cut off by the kill may explain the difference, and holds it back until it is denied.
    config = configured(tmp_path, port, quiet=False, span_ms=2000)
    config = config.replace("post_timeout_ms", "order_validity_ms = 5000\npost_timeout_ms")
    async with exchange(tmp_path, port) as first, running_daemon(tmp_path, config) as daemon:
        at = Terminal(daemon, tmp_path)
        daemon.patience_s = 90  # a difference that orders in doubt may explain is told in a minute
        await daemon.wait_event("order filled")
        while not _held(await daemon.status()):
            await trio.sleep(0.05)
        first.process.kill()
        await first.process.wait()
        since = len(daemon.log)
        async with exchange(tmp_path, port):
            told = await daemon.wait_event(
                "positions differ from the venue's", since=since, halted=True
            )
            status = await at.type("status")
            dry = await at.read("reconcile", "--dry-run")
            done = await at.type("reconcile")
            assert done.code == ExitCode.OK, done.err
            agreed = await daemon.wait_event("positions agree with the venue's", since=since)
            after = await daemon.status()
            await daemon.stop()
    assert told["account"] == agreed["account"]
    assert "is halted until they agree" in " ".join(status.out.split())
    assert "position" in {each["kind"] for each in dry["differences"]}  # type: ignore[attr-defined]
    assert "taken over from the venue: hyperliquid.BTC: ours" in done.out
    assert "still halted" not in done.out
    assert after["execution"]["position_differences"] == {}
    assert after["execution"]["halted_accounts"] == []


def _held(status: dict[str, Any]) -> bool:
    """Whether there is a position, and nothing under way that could change it unheard of."""
    held = any(row["quantity"] != "0" for row in status["positions"])
    return held and not status["execution"]["in_flight"]
