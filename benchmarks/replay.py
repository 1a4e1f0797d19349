"""A start on a long past: from the files to a state that can be traded on, and to READY.

The journal is written once, by the daemon's own ledger, and then opened in each way a start may
find it: as it was written, with a checkpoint after a compaction, and from the archive alone. What
comes out must be what was there when it was written.
"""

from __future__ import annotations

import shutil
import signal
import statistics
import time
from collections.abc import AsyncIterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from functools import partial
from pathlib import Path
from typing import Any

import trio

from benchmarks import values
from benchmarks.desk import Desk
from benchmarks.measure import Scale
from benchmarks.past import Past
from benchmarks.processes import exchange_process, python_process
from benchmarks.report import Row, compared, duration, size
from benchmarks.scratch import scratch_folder
from zq_daemon.core.order_state import apply
from zq_daemon.journal import codec
from zq_daemon.journal.compact import compact
from zq_daemon.journal.digest import digest
from zq_daemon.journal.files import FOLDER, checkpoint_names
from zq_daemon.journal.journal import Journal
from zq_daemon.journal.opening import OpenJournal, open_journal
from zq_daemon.journal.read import read_journal, read_up_to
from zq_daemon.journal.record import InstrumentKnown, Intent, RunEnded, RunStarted
from zq_daemon.journal.state import JournalState, empty_state
from zq_daemon.log import Batch, LogSettings
from zq_daemon.model.event import AccountUpdated, OrderFilled, OrderInitialized
from zq_daemon.model.ids import AccountId
from zq_daemon.ports.disk import SystemDisk
from zq_daemon.ports.rng import system_rng
from zq_daemon.telemetry.logging import configure
from zq_daemon.venue.hyperliquid.sign import AgentKey

LIMIT_NS = 5_000_000_000
CLOSED_ORDERS = 10_000
_ROUNDS = 3
_NAIVE_PART = 10
_KEY = f"{7:064x}"
_OWNER = AgentKey.from_text(_KEY).address
_CONFIG = """
state_dir = "{folder}"
[log]
format = "json"
summary_interval_ms = 0
[venues.hyperliquid]
api_url = "http://127.0.0.1:{port}"
account = "{owner}"
key_file = "{folder}/agent.key"
[[ws_endpoints]]
name = "market"
url = "ws://127.0.0.1:{port}/ws"
streams = ["l2Book:BTC"]
[[ws_endpoints]]
name = "account"
url = "ws://127.0.0.1:{port}/ws"
streams = ["orderUpdates", "userFills"]
"""


def run(scale: Scale) -> Iterator[Row]:
    """As written, beside a naive replay; the whole daemon; compacted; and from the archive."""
    configure("error")
    rounds = min(_ROUNDS, scale.rounds)
    with scratch_folder() as folder, exchange_process() as served:
        past = trio.run(_write, folder, f"hyperliquid {served.url}", scale.replay_records)
        opened = past.open(folder, rounds)
        opened_ns = statistics.median(opened)
        naive_ns = trio.run(_apply_all, folder, past.records // _NAIVE_PART) * _NAIVE_PART
        yield _row(
            f"replay of {past.records:,} records",
            opened,
            f"{compared('every event applied', naive_ns, opened_ns)}; "
            f"{_size(folder) / past.records:.0f} bytes a record on the disk",
        )
        yield _start(folder, served.port, rounds, past.records)
        yield from _compacted(folder, past, rounds, opened_ns)


def _start(folder: Path, port: int, rounds: int, records: int) -> Row:
    """The real daemon, on a copy as it writes to it."""
    with scratch_folder() as state:
        config = _configure(state, port)
        (empty_ns,) = _ready(config, 1)
        shutil.rmtree(state / FOLDER)
        shutil.copytree(folder / FOLDER, state / FOLDER)
        return _row(
            f"zq-daemon run to READY, {records:,} records",
            _ready(config, rounds),
            f"on an empty state folder {duration(empty_ns)}",
        )


def _compacted(folder: Path, past: _Past, rounds: int, opened_ns: float) -> Iterator[Row]:
    before, began = _size(folder), time.monotonic_ns()
    trio.run(partial(compact, SystemDisk(folder), closed_orders=CLOSED_ORDERS))
    taken_ns = time.monotonic_ns() - began
    quick = past.open(folder, rounds)
    yield _row(
        f"replay of {past.records:,} records, compacted",
        quick,
        f"{compared('as written', opened_ns, statistics.median(quick))}; "
        f"compaction took {duration(taken_ns)}, {size(before)} became {size(_size(folder))}",
    )
    for name in trio.run(checkpoint_names, SystemDisk(folder)):
        (folder / FOLDER / name).unlink()
    archived = past.open(folder, rounds)
    yield _row(
        f"replay of {past.records:,} records from the archive, all checkpoints lost",
        archived,
        compared("as written", opened_ns, statistics.median(archived)),
    )


def _row(name: str, rounds_ns: Sequence[int], against: str) -> Row:
    taken_ns = statistics.median(rounds_ns)
    return Row(
        name=name,
        figure=f"{duration(taken_ns)} (least of {len(rounds_ns)} {duration(min(rounds_ns))})",
        against=against,
        limit=duration(LIMIT_NS),
        holds=taken_ns < LIMIT_NS,
    )


class _Past:
    """What was written: how many *records*, and what they add up to."""

    def __init__(self, state: JournalState) -> None:
        self.records = state.sequence
        self._digest = digest(state)

    def open(self, folder: Path, rounds: int) -> Sequence[int]:
        """Nanoseconds from the files to an engine that goes on from them, round by round."""
        return [trio.run(self._open, folder) for _ in range(rounds)]

    async def _open(self, folder: Path) -> int:
        began = time.monotonic_ns()
        async with _opened(folder) as opened:
            opened_ns = time.monotonic_ns() - began
            if digest(opened.state) != self._digest:
                raise AssertionError("replay does not lead to what was written")
            began = time.monotonic_ns()
            Desk(Journal(opened.log, opened.state)).engine.restore()
            return opened_ns + time.monotonic_ns() - began


def _opened(folder: Path) -> AbstractAsyncContextManager[OpenJournal]:
    disk, settings = SystemDisk(folder), LogSettings()
    return open_journal(disk, closed_orders=CLOSED_ORDERS, settings=settings, rng=system_rng())


async def _write(folder: Path, venue: str, records: int) -> _Past:
    async with _opened(folder) as opened, trio.open_nursery() as nursery:
        journal = Journal(opened.log, opened.state)
        await nursery.start(journal.run)
        past = Past(journal, AccountId(f"{values.VENUE}.{_OWNER}"), venue, 1)
        while opened.state.sequence < records:
            past.ten_orders()
            await journal.room()
        past.end()
        await journal.durable()
        journal.close()
        return _Past(opened.state)


async def _apply_all(folder: Path, count: int) -> int:
    began, batches = time.monotonic_ns(), read_journal(SystemDisk(folder))
    async with aclosing(read_up_to(batches, count)) as wanted:
        await naive_replay(wanted)
    return time.monotonic_ns() - began


async def naive_replay(batches: AsyncIterable[Batch]) -> JournalState:
    """What one writes first: every record decoded, every event applied."""
    state = empty_state(closed_orders=CLOSED_ORDERS)
    async for batch in batches:
        for payload in batch.payloads:
            _apply_one(state, codec.decode(payload))
    state.portfolio.measure_anew()
    return state


def _apply_one(state: JournalState, record: Any) -> None:
    match record:
        case OrderInitialized():
            state.cache.put_order(record.order)
        case Intent():
            state.note_intent(record)
        case InstrumentKnown():
            state.cache.add_instrument(record.instrument)
            state.note(record)
        case RunStarted() | RunEnded():
            state.note(record)
        case AccountUpdated():
            state.cache.put_account(record.account)
            state.portfolio.on_account(record.account)
        case _:
            _apply_event(state, record)


def _apply_event(state: JournalState, event: Any) -> None:
    before = state.cache.order(event.client_order_id)
    if before is None:
        raise AssertionError(f"{event}: of an order nobody has heard of")
    order = apply(before, event)
    state.cache.put_order(order)
    if order.is_closed:
        state.note_closed(order.client_order_id)
    if isinstance(event, OrderFilled):
        state.seen.add(event.fill)
        state.cache.put_position(state.portfolio.on_fill(event.fill, event.strategy_id))


def _configure(folder: Path, port: int) -> Path:
    key_file, config = folder / "agent.key", folder / "config.toml"
    key_file.touch(mode=0o600)
    key_file.write_text(_KEY)
    config.write_text(_CONFIG.format(folder=folder, port=port, owner=_OWNER))
    return config


def _ready(config: Path, rounds: int) -> Sequence[int]:
    """Nanoseconds from the start of the process until it says that it runs, round by round."""
    command, taken = ("-m", "zq_daemon", "run", "--config", str(config)), list[int]()
    for _ in range(rounds):
        began = time.monotonic_ns()
        with python_process(command, '"running"', end=signal.SIGKILL):
            taken.append(time.monotonic_ns() - began)
    return taken


def _size(folder: Path) -> int:
    """What the files of the journal in *folder* take."""
    files = (each for each in (folder / FOLDER).rglob("*") if each.is_file())
    return sum(each.stat().st_size for each in files)
