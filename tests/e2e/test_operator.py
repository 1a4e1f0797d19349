"""The operator's commands as typed: real `zq-daemon` processes against a real daemon."""

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio
from attrs import frozen

from tests.harness.process import (
    RunningDaemon,
    demo_config,
    free_port,
    running_command,
    running_daemon,
)
from zq_daemon.exit_codes import ExitCode
from zq_daemon.venue.hyperliquid.sign import AgentKey

_ROOT = Path(__file__).parents[2]
_PATIENCE_S = 45


@frozen
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str


class Terminal:
    """Where an operator types commands at a running daemon."""

    def __init__(self, daemon: RunningDaemon, folder: Path) -> None:
        self.daemon = daemon
        self._config = folder / "config.toml"

    async def type(self, *arguments: str) -> Ended:
        """`zq-daemon` with *arguments*, to its end."""
        with trio.fail_after(_PATIENCE_S):
            done = await trio.run_process(
                [sys.executable, "-m", "zq_daemon", *arguments, "--config", str(self._config)],
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                stdin=subprocess.DEVNULL,
                cwd=_ROOT,
            )
        return Ended(done.returncode, done.stdout.decode(), done.stderr.decode())

    async def read(self, *arguments: str) -> dict[str, object]:
        """What the command tells as JSON."""
        ended = await self.type(*arguments, "--json")
        assert ended.code == ExitCode.OK, ended.err
        told = json.loads(ended.out)
        assert isinstance(told, dict)
        return told


_QUIET = 'spread_bps = "200", requote_bps = "900"'
"""Two quotes so far out that nobody trades with them, and that stay where they are."""


@asynccontextmanager
async def terminal(folder: Path, config: str | None = None) -> AsyncIterator[Terminal]:
    text = config or demo_config(free_port()).replace('spread_bps = "2"', _QUIET)
    async with running_daemon(folder, text) as daemon:
        await daemon.wait_events(2, "order accepted", strategy="maker")
        yield Terminal(daemon, folder)


async def test_orders_are_listed_and_cancelled(tmp_path: Path) -> None:
    async with terminal(tmp_path) as at:
        listed = await at.read("orders", "--open", "--strategy", "maker")
        drawn = await at.type("orders", "--strategy", "maker")
        ended = await at.type("cancel-all", "--strategy", "maker")
        cancelled = await at.daemon.wait_events(2, "order canceled", strategy="maker")
        closed = await at.read("orders", "--closed", "--instrument", "hyperliquid.BTC")
        assert await at.daemon.stop() == ExitCode.OK
    assert listed["total"] == 2
    ids = {row["client_order_id"] for row in listed["orders"]}  # type: ignore[attr-defined]
    assert drawn.code == ExitCode.OK
    assert all(each in drawn.out for each in ids)
    assert ended == Ended(ExitCode.OK, "2 cancelled, 0 unverified\n", "")
    assert ids == {line["client_order_id"] for line in cancelled}
    assert ids <= {row["client_order_id"] for row in closed["orders"]}  # type: ignore[attr-defined]


async def test_cancels_may_be_asked_for_without_waiting(tmp_path: Path) -> None:
    async with terminal(tmp_path) as at:
        ended = await at.type("cancel-all", "--no-wait", "--strategy", "maker")
        await at.daemon.wait_events(2, "order canceled", strategy="maker")
        assert await at.daemon.stop() == ExitCode.OK
    assert ended.code == ExitCode.OK
    assert ended.out.startswith("2 to be cancelled")


async def test_what_the_venue_does_not_confirm_is_told_by_the_exit_code(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "faults.toml").write_text("refuse_cancels = true\n")
    faults = ["--faults", str(tmp_path / "faults.toml")]
    alone = ["exchange", "--port", str(port), "--seed", "7", *faults]
    key = tmp_path / "key"
    key.write_text("0x" + "11" * 32)
    key.chmod(0o600)
    # On a separate exchange a key trades for its own address: nobody has approved it for another.
    signer = f'account = "{AgentKey(bytes([0x11]) * 32).address}"\nkey_file = "{key}"\n'
    text = demo_config(port).replace('spread_bps = "2"', _QUIET).replace("enabled = true", "")
    text = text.replace("[venues.hyperliquid]\n", f"[venues.hyperliquid]\n{signer}")
    async with running_command(alone, tmp_path) as exchange:
        await exchange.wait_event("exchange open")
        async with terminal(tmp_path, text) as at:
            ended = await at.type("cancel-all", "--strategy", "maker", "--timeout", "1")
            unverified = await at.read("orders", "--strategy", "maker")
            (tmp_path / "faults.toml").write_text("")
            exchange.send_signal(signal.SIGHUP)
            await exchange.wait_event("faults in force", since=len(exchange.log))
            assert await at.daemon.stop() == ExitCode.OK
    assert ended.code == ExitCode.UNVERIFIED
    told = ended.out.splitlines()
    assert told[0] == "0 cancelled, 2 unverified"
    assert unverified["total"] == 2


async def test_halt_and_activate_with_their_reasons(tmp_path: Path) -> None:
    async with terminal(tmp_path) as at:
        halted = await at.type("halt", "odd prices")
        await at.daemon.wait_events(2, "order canceled", strategy="maker")
        status = await at.type("status")
        again = await at.type("halt")
        since = len(at.daemon.log)
        active = await at.type("activate", "prices are fine")
        await at.daemon.wait_event("order accepted", strategy="maker", since=since)
        lines = await at.daemon.wait_events(2, "trading state changed")
        assert await at.daemon.stop() == ExitCode.OK
    assert halted.out == "halted: no order leaves, open ones are cancelled\n"
    reason = "kill switch: control socket: odd prices"
    assert reason in status.out
    assert again.out == f"halted already ({reason}): open orders are cancelled\n"
    assert active.out == "active\n"
    assert [line["reason"] for line in lines] == [reason, "control socket: prices are fine"]
    assert {one.code for one in (halted, status, again, active)} == {ExitCode.OK}


async def test_positions_are_shown(tmp_path: Path) -> None:
    async with terminal(tmp_path) as at:
        await at.daemon.wait_event("order filled", strategy="trend")
        told = await at.read("positions", "--strategy", "trend")
        drawn = await at.type("positions")
        assert await at.daemon.stop() == ExitCode.OK
    (row,) = told["strategies"]["rows"]  # type: ignore[index]
    assert row["instrument"] == "hyperliquid.BTC"
    assert drawn.code == ExitCode.OK
    assert "Account hyperliquid.0x" in drawn.out
    assert "trend" in drawn.out


async def test_what_does_not_exist_is_a_wrong_usage_that_names_what_does(tmp_path: Path) -> None:
    async with terminal(tmp_path) as at:
        for arguments in (["cancel-all", "--strategy", "makr"], ["resume", "makr"]):
            ended = await at.type(*arguments)
            assert ended.code == ExitCode.USAGE
            assert "unknown strategy 'makr'; did you mean 'maker'?" in ended.err
        ended = await at.type("orders", "--instrument", "hyperliquid.NOPE")
        assert ended.code == ExitCode.USAGE
        assert "there are: hyperliquid.BTC" in ended.err
        ended = await at.type("resume", "maker")
        assert ended.code == ExitCode.UNAVAILABLE
        assert "strategy maker" in ended.err
        assert len((await at.read("orders", "--open", "--strategy", "maker"))["orders"]) == 2  # type: ignore[arg-type]
        assert await at.daemon.stop() == ExitCode.OK


async def test_a_stop_has_its_reason(tmp_path: Path) -> None:
    async with terminal(tmp_path) as at:
        ended = await at.type("stop", "end of day")
        assert await at.daemon.wait_exit() == ExitCode.OK
        stopped = await at.daemon.wait_event("stopped")
        gone = await at.type("orders")
    assert ended == Ended(ExitCode.OK, "stopping\n", "")
    assert stopped["reason"] == "control socket: end of day"
    assert gone.code == ExitCode.UNAVAILABLE
