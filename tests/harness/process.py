"""Runs the real `zq-daemon` in a process of its own and waits on what it logs, never on time."""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from zq_daemon.control.client import request

LogLine = dict[str, Any]
_PATIENCE_S = 45
_PORTS = range(10_000, 32_768)
_TURN = Path(tempfile.gettempdir()) / f"zq-daemon-test-port-{os.getuid()}"

_AS_FROM_A_TERMINAL = (
    "import os, signal, sys; "
    "signal.signal(signal.SIGINT, signal.SIG_DFL); "
    "os.execv(sys.argv[1], sys.argv[1:])"
)


def daemon_command(*arguments: str, module: str = "zq_daemon") -> list[str]:
    """`zq-daemon` (or another *module*) with *arguments*, as a process that a Ctrl-C interrupts.

    A shell starts its background jobs with SIGINT ignored, and so their children, tests among
    them: such a process would never be interrupted.
    """
    started = [sys.executable, "-m", module, *arguments]
    return [sys.executable, "-I", "-S", "-c", _AS_FROM_A_TERMINAL, *started]


def free_port() -> int:
    """A TCP port nobody has at the moment, and no test was given lately, which may not listen yet.

    Not even one of another process: others test on this machine at the same time. And none of those
    that the system gives to outgoing connections: one of them, of whatever test, might have it by
    the time it is listened on, or reach itself there while nobody listens.
    """
    while True:
        port = _next_port()
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def _next_port() -> int:
    """Each comes again after all the others only, whichever processes of this user ask."""
    with os.fdopen(os.open(_TURN, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+b") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        last = turn.read()
        port = int(last) + 1 if last.isdigit() else random.SystemRandom().choice(_PORTS)
        if port not in _PORTS:
            port = _PORTS.start
        turn.seek(0)
        turn.write(b"%d" % port)
        turn.truncate()
    return port


class RunningDaemon:
    """A `zq-daemon` process: its log, its control socket, its signals."""

    def __init__(self, process: trio.Process, socket_path: Path) -> None:
        self.process = process
        self.log: list[LogLine] = []
        self.patience_s: float = _PATIENCE_S
        self._socket = socket_path
        self._grown = trio.Event()
        self.ended = trio.Event()

    async def read_log(self) -> None:
        """Collect its JSON log lines until it closes its output."""
        assert self.process.stderr is not None
        pending = b""
        async for chunk in self.process.stderr:
            *lines, pending = (pending + chunk).split(b"\n")
            self.log.extend(_parse(line) for line in lines if line.strip())
            self._wake()
        self.ended.set()
        self._wake()

    async def wait_log(
        self, wanted: Callable[[LogLine], bool], what: str, *, since: int = 0
    ) -> LogLine:
        """The first line, seen already or still to come, that *wanted* accepts.

        The first *since* lines do not count.
        """
        seen = since
        with trio.move_on_after(self.patience_s):
            while True:
                for line in self.log[seen:]:
                    if wanted(line):
                        return line
                seen = len(self.log)
                if self.ended.is_set():
                    break
                await self._grown.wait()
        tail = "\n".join(json.dumps(line) for line in self.log[-30:])
        raise AssertionError(f"never logged: {what}; the log ends:\n{tail}")

    async def wait_event(self, event: str, *, since: int = 0, **fields: Any) -> LogLine:
        """The first line with this event text and these fields."""
        (line,) = await self.wait_events(1, event, since=since, **fields)
        return line

    async def wait_events(
        self, count: int, event: str, *, since: int = 0, **fields: Any
    ) -> list[LogLine]:
        """The first *count* lines with this event text and these fields."""
        found: list[LogLine] = []

        def wanted(line: LogLine) -> bool:
            if line.get("event") == event and fields.items() <= line.items():
                found.append(line)
            return len(found) == count

        await self.wait_log(wanted, f"{count} times {event} {fields}", since=since)
        return found

    async def status(self) -> dict[str, Any]:
        """What its control socket answers."""
        answer = await request(self._socket, "status")
        assert isinstance(answer, dict)
        return answer

    def send_signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def wait_exit(self) -> int:
        """Its exit code."""
        with trio.fail_after(_PATIENCE_S):
            await self.ended.wait()
            return await self.process.wait()

    async def stop(self) -> int:
        """SIGTERM, then its exit code."""
        self.send_signal(signal.SIGTERM)
        return await self.wait_exit()

    def _wake(self) -> None:
        self._grown.set()
        self._grown = trio.Event()


@asynccontextmanager
async def running_daemon(folder: Path, config: str) -> AsyncIterator[RunningDaemon]:
    """`zq-daemon run` on *config* written into *folder*; killed on leaving if it still runs."""
    path = folder / "config.toml"
    path.write_text(config)
    async with running_command(["run", "--config", str(path)], folder) as daemon:
        yield daemon


@asynccontextmanager
async def running_command(
    arguments: list[str], folder: Path, *, module: str = "zq_daemon", inside: Sequence[str] = ()
) -> AsyncIterator[RunningDaemon]:
    """`zq-daemon` with *arguments*; its control socket is expected in *folder*/var.

    *inside* is a command that becomes the command behind it, in another place.
    """
    process = await trio.lowlevel.open_process(
        [*inside, *daemon_command(*arguments, module=module)],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    daemon = RunningDaemon(process, folder / "var" / "control.sock")
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(daemon.read_log)
            yield daemon
            if process.poll() is None:
                process.kill()
    finally:
        if process.poll() is None:
            process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()


def _parse(line: bytes) -> LogLine:
    try:
        parsed = json.loads(line)
    except ValueError:
        return {"event": "", "text": line.decode(errors="replace")}
    return parsed if isinstance(parsed, dict) else {"event": "", "text": parsed}


def demo_config(port: int, *, extra: str = "", strategies: bool = True) -> str:
    """A daemon on its embedded exchange at *port*, with both strategies that ship."""
    return f"""
state_dir = "var"
tick_interval_ms = 100
reconnect_base_ms = 100
reconnect_max_ms = 2000
{extra}

[exchange]
enabled = true
port = {port}
seed = 7

[venues.hyperliquid]
api_url = "http://127.0.0.1:{port}"

[log]
format = "json"
summary_interval_ms = 1000

[[ws_endpoints]]
name = "market"
url = "ws://127.0.0.1:{port}/ws"
streams = ["l2Book:BTC", "trades:BTC", "bbo:BTC", "activeAssetCtx:BTC"]

[[ws_endpoints]]
name = "private"
url = "ws://127.0.0.1:{port}/ws"
streams = ["orderUpdates", "userFills"]
{_STRATEGIES if strategies else ""}
"""


_STRATEGIES = """
[[strategies]]
name = "trend"
use = "zq_daemon.strategy.ma_cross:MovingAverageCross"
instruments = ["hyperliquid.BTC"]
bars = ["1s"]
params = { fast = 2, slow = 4, quantity = "0.001" }

[[strategies]]
name = "maker"
use = "zq_daemon.strategy.market_maker:MarketMaker"
instruments = ["hyperliquid.BTC"]
params = { spread_bps = "2", quantity = "0.001", max_position = "0.01" }
"""
