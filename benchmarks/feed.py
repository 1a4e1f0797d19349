"""From a frame on a loopback socket to a strategy: latency when paced, CPU time when flat out.

The daemon is a whole one (`open_daemon`): endpoint, session, feed queue, dispatcher, data engine,
bus, strategy host. The venue is another process.
"""

from __future__ import annotations

import re
import socket
import statistics
import sys
import tempfile
import time
from array import array
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from unittest.mock import patch

import trio
from attrs import frozen

from benchmarks import values
from benchmarks.measure import Scale, percentile
from benchmarks.probe import Probe
from benchmarks.report import Row, compared, duration
from zq_daemon.config.schema import (
    DaemonConfig,
    HyperliquidConfig,
    LogConfig,
    StrategyConfig,
    VenuesConfig,
    WsEndpointConfig,
)
from zq_daemon.daemon import open_daemon
from zq_daemon.model.ids import StrategyId
from zq_daemon.ports import link
from zq_daemon.telemetry.logging import configure

RATE = 5_000
LIMIT_NS = 5_000_000
BOOKS_OF_TEN = 1
"""How many of ten messages are books when paced."""
ROUNDS = 3
ROOT = Path(__file__).resolve().parent.parent
SENDER = [sys.executable, "-m", "benchmarks.sender"]
_TRADE_ID = re.compile(rb'"tid":(\d+),')
TUNED = {"_RECEIVE_BYTES": link._RECEIVE_BYTES, "_QUEUED_MESSAGES": link._QUEUED_MESSAGES}
_DEFAULT = {"_RECEIVE_BYTES": 4_096, "_QUEUED_MESSAGES": 1}
KINDS = {"trades, 290 bytes": 0, "books, 20 x 20, 1.7 KB (9 of 10 messages)": 9}


@frozen
class Setup:
    """A running daemon's probe, and the process that sends to it."""

    probe: Probe
    sender: trio.Process

    async def stream(self, count: int, rate: int, books: int) -> int:
        """Have *count* messages sent and wait for the last; messages a second as sent."""
        assert self.sender.stdin is not None
        self.probe.expect(trades_of(count, books))
        await self.sender.stdin.send_all(f"{count} {rate} {books}\n".encode())
        sent_rate = await _read_number(self.sender)
        await self.probe.arrived.wait()
        return sent_rate


def run(scale: Scale) -> Iterator[Row]:
    """Paced, then flat out, each with trio-websocket as we set it and as it comes."""
    configure("error")
    yield from _paced_rows(scale)
    for name, books in KINDS.items():
        yield _flat_out_row(name, books, scale)


def _paced_rows(scale: Scale) -> Iterator[Row]:
    rounds = min(ROUNDS, scale.rounds)
    count = max(int(scale.paced_s * RATE / rounds), 10)
    own, default, bare = [], [], []
    for _ in range(rounds):
        own.append(trio.run(paced, TUNED, count))
        default.append(trio.run(paced, _DEFAULT, count))
        bare.append(tails(_paced_bare(count)))
    p50_ns, p99_ns, cpu_ns, rate = _medians(own)
    defaults = _medians(default)
    name = f"frame to strategy, paced at {rate:,.0f} msg/s, {BOOKS_OF_TEN} of 10 a book"
    yield Row(
        name=f"{name}: p50, p99",
        figure=_both(p50_ns, p99_ns),
        against=f"a bare blocking socket {_both(*_medians(bare))}; "
        f"trio-websocket's defaults {_both(*defaults[:2])}",
        limit=duration(LIMIT_NS),
        holds=p99_ns < LIMIT_NS,
    )
    yield Row(
        name=f"{name}: CPU a message",
        figure=f"{duration(cpu_ns)} ({cpu_ns * rate / 1e9:.0%} of a core)",
        against=compared("trio-websocket's defaults", defaults[2], cpu_ns),
    )


def trades_of(count: int, books: int) -> int:
    """How many of *count* messages are trades, when *books* of every ten are not."""
    return count - sum(number % 10 < books for number in range(count - 1))


def tails(latencies_ns: Sequence[int]) -> tuple[int, int]:
    return percentile(latencies_ns, 0.5), percentile(latencies_ns, 0.99)


def _medians(rounds: Sequence[Sequence[float]]) -> Sequence[float]:
    """Of each column."""
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def _both(p50_ns: float, p99_ns: float) -> str:
    return f"{duration(p50_ns)}, {duration(p99_ns)}"


def _flat_out_row(name: str, books: int, scale: Scale) -> Row:
    own, other = [], []
    for _ in range(min(ROUNDS, scale.rounds)):
        own.append(trio.run(flat_out, TUNED, scale.flat_out_messages, books))
        other.append(trio.run(flat_out, _DEFAULT, scale.flat_out_messages, books))
    taken, default = statistics.median(own), statistics.median(other)
    return Row(
        name=f"frame to strategy, flat out, {name}: CPU a message",
        figure=f"{duration(taken)} ({1e9 / taken:,.0f} msg/s)",
        against=compared("trio-websocket's defaults", default, taken),
        limit=f"{RATE:,} msg/s",
        holds=1e9 / taken > RATE,
    )


async def paced(settings: dict[str, int], count: int) -> tuple[int, int, float, int]:
    """After a second of warming up: p50, p99, CPU time a message (ns), messages a second sent."""
    async with _open(settings) as setup:
        await setup.stream(min(count, RATE), RATE, BOOKS_OF_TEN)
        used = time.process_time_ns()
        rate = await setup.stream(count, RATE, BOOKS_OF_TEN)
        cpu_ns = (time.process_time_ns() - used) / count
        return *tails(setup.probe.latencies_ns), cpu_ns, rate


def _paced_bare(count: int) -> Sequence[int]:
    """The machine's share: a blocking socket, and a look for the trade id in what comes."""
    latencies_ns, pending = array("q"), b""
    with Popen(SENDER, cwd=ROOT, stdin=PIPE, stdout=PIPE) as sender:
        assert sender.stdin is not None
        assert sender.stdout is not None
        address = ("127.0.0.1", int(sender.stdout.readline()))
        with socket.create_connection(address) as connection:
            connection.sendall(b"GET /ws HTTP/1.1\r\nSec-WebSocket-Key: bare\r\n\r\n")
            connection.recv(65_536)
            sender.stdin.write(f"{count} {RATE} {BOOKS_OF_TEN}\n".encode())
            sender.stdin.close()
            while data := connection.recv(65_536):
                now_ns, end = time.monotonic_ns(), 0
                pending += data
                for found in _TRADE_ID.finditer(pending):
                    latencies_ns.append(now_ns - int(found[1]))
                    end = found.end()
                pending = pending[end:]
    return latencies_ns


async def flat_out(settings: dict[str, int], count: int, books: int) -> float:
    """Nanoseconds of CPU time of this process, for each message that was sent."""
    async with _open(settings) as setup:
        await setup.stream(count // 10 + 10, 0, books)
        used = time.process_time_ns()
        await setup.stream(count, 0, books)
        return (time.process_time_ns() - used) / count


@asynccontextmanager
async def _open(settings: dict[str, int]) -> AsyncIterator[Setup]:
    """A sender and a daemon that is subscribed to it; *settings* are the link's."""
    with patch.dict(vars(link), settings), tempfile.TemporaryDirectory() as folder:
        sender = await trio.lowlevel.open_process(SENDER, cwd=ROOT, stdin=PIPE, stdout=PIPE)
        try:
            port = await _read_number(sender)
            async with open_daemon(_config(port, folder)) as daemon:
                probe = daemon.parts.strategies.strategies()[StrategyId("probe")]
                assert isinstance(probe, Probe)
                yield Setup(probe, sender)
        finally:
            sender.kill()
            with trio.CancelScope(shield=True):
                await _reap(sender)


async def _reap(sender: trio.Process) -> None:
    await sender.wait()
    for pipe in (sender.stdin, sender.stdout):
        if pipe is not None:
            await pipe.aclose()


async def _read_number(sender: trio.Process) -> int:
    """One line of what it prints."""
    assert sender.stdout is not None
    line = b""
    while not line.endswith(b"\n"):
        line += await sender.stdout.receive_some()
    return int(line)


def _config(port: int, folder: str) -> DaemonConfig:
    streams = (f"trades:{values.COIN}", f"l2Book:{values.COIN}")
    return DaemonConfig(
        state_dir=folder,
        heartbeat_interval_ms=600_000,
        venues=VenuesConfig(hyperliquid=HyperliquidConfig(api_url=f"http://127.0.0.1:{port}")),
        ws_endpoints=(WsEndpointConfig(url=f"ws://127.0.0.1:{port}/ws", streams=streams),),
        strategies=(
            StrategyConfig(name="probe", use="benchmarks.probe:Probe", instruments=(values.BTC,)),
        ),
        log=LogConfig(level="error"),
    )
