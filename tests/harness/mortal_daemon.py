"""The real daemon as a process of its own that kills itself (SIGKILL) at a named point.

    python -m tests.harness.mortal_daemon --config F --point P --nth N

It does once it is armed, by SIGUSR1: at the Nth order after that (or the Nth `--request cancel`,
`--request modify`), and says which on stderr. The points: `before_commit`, the commit with the
order's intent is asked for and not begun (it is held for a while, in which nothing may leave);
`after_commit`, that commit has returned; `after_send`, the bytes of the order's post went to the
socket; `after_ack`, the answer came and nobody has read it yet. `never` is a daemon that lives. All
of that is in wrapped ports: nothing in the daemon knows of it.

For tests of tests, `--mutant` breaks the daemon on purpose (`tests.harness.mutants`). `--witness`
writes down what was synced (`tests.harness.witness`). `--segment-bytes` makes the journal's files
smaller than a configuration can.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import trio
from attrs import evolve

from tests.harness import mutants, witness
from tests.harness.wire import Answered, Post, Sent
from zq_daemon import daemon
from zq_daemon.assembly import system_ports
from zq_daemon.cli.check import sound_config
from zq_daemon.journal import codec
from zq_daemon.journal.record import Intent
from zq_daemon.log import LogSettings
from zq_daemon.log.frame import HEAD_BYTES, Kind, decode
from zq_daemon.ports.disk import File, SystemDisk
from zq_daemon.ports.network import SystemNetwork
from zq_daemon.telemetry.logging import configure

POINTS = ("before_commit", "after_commit", "after_send", "after_ack")
REQUESTS = {"submit": "order", "cancel": "cancelByCloid", "modify": "batchModify"}
"""What is asked for in an intent, and what its post is called."""
_HOLD_S = 0.1


class Trap:
    """Counts orders once it is armed, and kills the process at the last one."""

    def __init__(self, point: str, nth: int, request: str) -> None:
        self.point = point
        self._left = nth
        self._request = request
        self._armed = False

    def arm(self, *_: object) -> None:
        """Count from now on; a signal handler."""
        self._armed = True

    def in_commit(self, data: bytes) -> str | None:
        """The order to die at, if its intent is among the frames in *data*."""
        wanted = [each for each in intents_in(data) if each.kind == self._request]
        return self._count(each.client_order_id for each in wanted)

    def in_post(self, post: Post) -> str | None:
        """The order to die at, if *post* is about it."""
        return self._count(post.cloids if post.kind == REQUESTS[self._request] else ())

    def _count(self, cloids: Iterable[str]) -> str | None:
        for cloid in cloids if self._armed else ():
            self._left -= 1
            if self._left == 0:
                return cloid
        return None

    def spring(self, cloid: str) -> None:
        """The end."""
        told = {"event": "killed", "point": self.point, "client_order_id": cloid}
        os.write(2, json.dumps(told).encode() + b"\n")
        os.kill(os.getpid(), signal.SIGKILL)


class MortalDisk(SystemDisk):
    def __init__(self, root: Path, trap: Trap) -> None:
        super().__init__(root)
        self._trap = trap

    async def create(self, path: str, size: int) -> File:
        return MortalFile(await super().create(path, size), self._trap)

    async def open(self, path: str) -> File:
        return MortalFile(await super().open(path), self._trap)


class MortalFile:
    def __init__(self, file: File, trap: Trap) -> None:
        self._file = file
        self._trap = trap

    async def write(self, offset: int, data: bytes) -> None:
        await self._file.write(offset, data)

    async def sync(self) -> None:
        await self._file.sync()

    async def truncate(self, size: int) -> None:
        await self._file.truncate(size)

    async def aclose(self) -> None:
        await self._file.aclose()

    async def commit(self, offset: int, data: bytes) -> None:
        point, cloid = self._trap.point, None
        if point in ("before_commit", "after_commit"):
            cloid = self._trap.in_commit(data)
        if cloid is not None and point == "before_commit":
            await trio.sleep(_HOLD_S)
            self._trap.spring(cloid)
        await self._file.commit(offset, data)
        if cloid is not None:
            self._trap.spring(cloid)


class MortalNetwork(SystemNetwork):
    def __init__(self, trap: Trap) -> None:
        super().__init__()
        self._trap = trap

    async def connect(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        return MortalStream(await super().connect(host, port, tls=tls), self._trap)


class MortalStream(trio.abc.Stream):
    def __init__(self, stream: trio.abc.Stream, trap: Trap) -> None:
        self._stream = stream
        self._trap = trap
        self._sent = Sent()
        self._answered = Answered()
        self._awaited: tuple[int, str] | None = None

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        posts = self._sent.feed(bytes(data))
        if self._trap.point == "after_ack":
            self._await_one_of(posts)
        await self._stream.send_all(data)
        if self._trap.point == "after_send":
            for post in posts:
                if (cloid := self._trap.in_post(post)) is not None:
                    self._trap.spring(cloid)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        data = await self._stream.receive_some(max_bytes)
        answered = self._answered.feed(bytes(data))
        if self._awaited is not None and self._awaited[0] in answered:
            self._trap.spring(self._awaited[1])
        return data

    def _await_one_of(self, posts: Iterable[Post]) -> None:
        for post in posts:
            if (cloid := self._trap.in_post(post)) is not None:
                self._awaited = post.number, cloid


def intents_in(data: bytes) -> Iterable[Intent]:
    """The intents among the frames in *data*."""
    offset = 0
    while (frame := decode(data, offset)) is not None:
        offset = frame.end
        payload = data[frame.start + HEAD_BYTES : frame.end].rstrip(b"\0")
        if frame.kind is Kind.RECORD and payload[0] == codec.INTENT:
            yield codec.decode(payload)


def use_segments(size: int) -> None:
    """Journal in files of *size* bytes."""

    def settings(**changes: Any) -> LogSettings:
        return LogSettings(**{**changes, "segment_bytes": size, "max_payload_bytes": size // 4})

    vars(daemon)["LogSettings"] = settings


def main() -> int:
    """Run until it is stopped or dead."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--point", choices=(*POINTS, "never"), default="never")
    parser.add_argument("--nth", type=int, default=1)
    parser.add_argument("--request", choices=REQUESTS, default="submit")
    parser.add_argument("--mutant", choices=mutants.MUTANTS)
    parser.add_argument("--segment-bytes", type=int)
    parser.add_argument("--witness", type=Path)
    asked: Any = parser.parse_args()
    trap = Trap(asked.point, asked.nth, asked.request)
    signal.signal(signal.SIGUSR1, trap.arm)
    if asked.witness is not None:
        witness.install(asked.witness)
    if asked.mutant is not None:
        mutants.MUTANTS[asked.mutant]()
    if asked.segment_bytes is not None:
        use_segments(asked.segment_bytes)
    config = sound_config(asked.config)
    configure(config.log.level, config.log.format)
    disk = MortalDisk(Path(config.state_dir), trap)
    ports = evolve(system_ports(config), disk=disk, network=MortalNetwork(trap))
    return daemon.run(config, config_path=asked.config, ports=ports)


if __name__ == "__main__":
    sys.exit(main())
