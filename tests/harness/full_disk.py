"""Run on a small file system, as a program: fills it with a log, then looks at what is there.

`fill FOLDER` writes until the disk is full and checks that everything acknowledged can be read;
`look FOLDER` does so on the disk that became read-only since. Each prints the error it met.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import trio

from tests.harness.logs import FOLDER, KIND, found, inspected
from zq_daemon.errors import LogError
from zq_daemon.log import Log, LogSettings, open_log
from zq_daemon.ports.disk import SystemDisk

SETTINGS = LogSettings(segment_bytes=262_144, max_payload_bytes=4_096)


async def fill(root: Path) -> None:
    disk, acknowledged = SystemDisk(root), dict[int, bytes]()
    async with (
        open_log(disk, FOLDER, kind=KIND, settings=SETTINGS, rng=random.Random(1)) as log,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(_run, log)
        try:
            for number in range(1, 10_000):
                payload = b"%d" % number * 200
                sequence = log.write(payload)
                await log.durable(sequence)
                acknowledged[sequence] = payload
        except LogError as error:
            sys.stdout.write(f"refused: {error}\n")
    assert len(acknowledged) > 100
    assert (await inspected(disk)).damages == ()
    assert await found(disk) == acknowledged


async def look(root: Path) -> None:
    disk = SystemDisk(root)
    try:
        async with open_log(disk, FOLDER, kind=KIND, settings=SETTINGS, rng=random.Random(1)):
            raise AssertionError("a log on a read-only disk was opened for writing")
    except LogError as error:
        sys.stdout.write(f"refused: {error}\n")
    assert len(await found(disk)) > 100


async def _run(log: Log) -> None:
    try:
        await log.run()
    except LogError:
        assert log.durable_sequence > 0


if __name__ == "__main__":
    trio.run({"fill": fill, "look": look}[sys.argv[1]], Path(sys.argv[2]))
