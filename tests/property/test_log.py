"""A log against plain dicts: any writers, any end of the process or the power, any flipped bit."""

from __future__ import annotations

import random
from collections.abc import Sequence

import trio
from attrs import Factory, define, frozen
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.harness.determinism import run_virtual
from tests.harness.logs import FOLDER, KIND, SMALL, add, found, inspected, written
from zq_daemon.errors import LogError
from zq_daemon.log import Batch, Log, open_log
from zq_daemon.log.segment import first_of
from zq_daemon.ports.disk import MemoryDisk

SYNC_S = 0.001


@frozen
class Step:
    """Write *count* records of *size* bytes after *pause_s*, and wait for them or not."""

    pause_s: float
    count: int
    size: int
    wait: bool


@frozen
class Life:
    """What the tasks of one process write, and what ends it after *lasts_s*.

    `cancel` cancels the tasks and the writer, `kill` the process only, `cut` the power.
    """

    writers: Sequence[Sequence[Step]]
    end: str
    lasts_s: float


def times(most: float) -> st.SearchStrategy[float]:
    return st.integers(0, 40).map(lambda n: n * most / 40)


STEPS = st.builds(
    Step,
    times(3 * SYNC_S),
    st.integers(1, 8),
    st.integers(0, SMALL.max_payload_bytes),
    st.booleans(),
)
LIVES = st.builds(
    Life,
    st.lists(st.lists(STEPS, max_size=6), min_size=1, max_size=4),
    st.sampled_from(["close", "cancel", "kill", "cut", "cut", "cut"]),
    times(30 * SYNC_S) | times(400 * SYNC_S),
)


@define
class World:
    """A disk, and what may and what must be on it."""

    rng: random.Random
    disk: MemoryDisk = Factory(lambda: MemoryDisk(sync_s=SYNC_S))
    must: dict[int, bytes] = Factory(dict)
    may: dict[int, bytes] = Factory(dict)
    ended: bool = False

    async def live(self, life: Life) -> None:
        self.ended = False
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end, life, nursery.cancel_scope)
            try:
                await self._run(life)
            except LogError:
                assert self.ended
            nursery.cancel_scope.cancel()

    async def _end(self, life: Life, scope: trio.CancelScope) -> None:
        await trio.sleep(life.lasts_s)
        if life.end == "close":
            return
        self.ended = True
        if life.end == "cancel":
            scope.cancel()
        elif life.end == "kill":
            self.disk.kill()
        else:
            self.disk.power_cut(self.rng)

    async def _run(self, life: Life) -> None:
        records: dict[int, bytes] = {}

        def take(batch: Batch) -> None:
            add(records, batch)

        async with open_log(
            self.disk, FOLDER, kind=KIND, settings=SMALL, rng=self.rng, on_batch=take
        ) as log:
            self._check(log, records)
            assert await found(self.disk) == records
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._serve, log)
                async with trio.open_nursery() as writers:
                    for steps in life.writers:
                        writers.start_soon(self._write, log, steps)
                log.close()

    def _check(self, log: Log, records: dict[int, bytes]) -> None:
        opening = log.opening
        assert opening.damages == opening.accepted == ()
        for sequence, payload in self.must.items():
            assert records.get(sequence) == payload, f"record {sequence} was lost"
        for sequence, payload in records.items():
            assert payload == self.may.get(sequence), f"record {sequence} was invented"
        torn = {n for first, last in opening.gaps for n in range(first, last + 1)}
        assert set(range(1, opening.last_sequence + 1)) == records.keys() | torn
        assert not records.keys() & torn
        self.must, self.may = dict(records), dict(records)
        event(f"{min(len(opening.gaps), 2)} gaps, torn: {opening.torn_bytes > 0}")

    async def _serve(self, log: Log) -> None:
        try:
            await log.run()
        except LogError:
            assert self.ended

    async def _write(self, log: Log, steps: Sequence[Step]) -> None:
        try:
            for step in steps:
                await trio.sleep(step.pause_s)
                for _ in range(step.count):
                    await log.room()
                    payload = self.rng.randbytes(step.size)
                    sequence = log.write(payload)
                    assert sequence not in self.may
                    self.may[sequence] = payload
                if step.wait:
                    await log.durable(sequence)
                    assert log.durable_sequence >= sequence
                    self.must |= {n: self.may[n] for n in self.may if n <= sequence}
        except LogError:
            assert self.ended


async def live_all(seed: int, lives: Sequence[Life]) -> None:
    world = World(random.Random(seed))
    for life in lives:
        await world.live(life)
    for _ in range(2):
        await world.live(Life([[Step(0, 1, 1, True)]], "close", 0))


@settings(max_examples=300)
@given(seed=st.integers(0, 2**32), lives=st.lists(LIVES, min_size=1, max_size=6))
def test_what_was_acknowledged_is_there_and_nothing_is_invented(
    seed: int, lives: Sequence[Life]
) -> None:
    run_virtual(seed, live_all, seed, lives)


async def flip_one(groups: Sequence[Sequence[int]], choice: float, seed: int) -> None:
    disk, rng, wanted = MemoryDisk(), random.Random(seed), {}
    async with written(disk) as log:
        for group in groups:
            for size in group:
                payload = rng.randbytes(size)
                wanted[log.write(payload)] = payload
            await log.durable()
    paths = [f"{FOLDER}/{name}" for name in await disk.list(FOLDER) if first_of(name)]
    path = paths[int(choice * len(paths))]
    content = disk.durable(path)
    bit = rng.randrange(len(content) * 8)
    disk.damage(path, bit // 8, bytes([content[bit // 8] ^ 1 << bit % 8]))
    opening = await inspected(disk)
    lost = {
        sequence
        for damage in opening.damages
        for sequence in range(damage.first_sequence, damage.last_sequence + 1)
    }
    event(f"{len(opening.damages)} damages, {len(lost)} lost")
    assert await found(disk) == {n: each for n, each in wanted.items() if n not in lost}
    assert len(lost) <= 1
    if wanted:
        assert opening.last_sequence == max(wanted)


GROUPS = st.lists(
    st.lists(st.integers(0, SMALL.max_payload_bytes), min_size=1, max_size=10), max_size=12
)


@settings(max_examples=200)
@given(groups=GROUPS, choice=st.floats(0, 0.999), seed=st.integers(0, 2**32))
def test_a_flipped_bit_is_named_or_costs_nothing(
    groups: Sequence[Sequence[int]], choice: float, seed: int
) -> None:
    run_virtual(seed, flip_one, groups, choice, seed)
