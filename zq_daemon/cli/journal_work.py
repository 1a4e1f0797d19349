"""What the `zq-daemon journal` commands do, and how they say it. Never touches a running daemon."""

from __future__ import annotations

import os
import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeGuard

import click
import msgspec
import trio
from attrs import evolve, frozen

from zq_daemon.cli.options import named
from zq_daemon.config.load import load_config
from zq_daemon.config.schema import DaemonConfig
from zq_daemon.errors import JournalError, LogInUseError
from zq_daemon.exit_codes import ExitCode
from zq_daemon.journal import codec
from zq_daemon.journal.compact import Compacted, compact
from zq_daemon.journal.files import ARCHIVE, FOLDER, HISTORY, KIND, archived_name, require_journal
from zq_daemon.journal.follow import rebuild_history
from zq_daemon.journal.history_schema import time_text
from zq_daemon.journal.read import journal_errors, read_journal
from zq_daemon.journal.state import JournalState
from zq_daemon.journal.verify import Verification, verify
from zq_daemon.log import Batch, Damage, LogSettings, inspect_log, open_log
from zq_daemon.log.segment import first_of
from zq_daemon.log.survey import segment_names
from zq_daemon.model.order import Order
from zq_daemon.ports.disk import Disk, SystemDisk
from zq_daemon.ports.rng import system_rng
from zq_daemon.ports.sqlite import SystemDatabases

_SHOWN = 20
_ACCEPTED = (
    "the next start asks the venue about what is lost, and the daemon starts halted: look at its "
    "orders and positions, then `zq-daemon activate`"
)
_ORDER = re.compile(r"0x[0-9a-f]{32}")


@frozen(kw_only=True)
class Wanted:
    """Which records to print."""

    order: str | None = None
    kind: str | None = None
    first: int = 1
    limit: int | None = None


def verify_journal(config_path: Path) -> int:
    """Print what is in the journal and what is wrong with it."""
    config = load_config(config_path)
    found = trio.run(_verify, config)
    for line in _told(found, config.state_dir):
        click.echo(line)
    if not found.problems:
        click.echo("sound: the journal can be trusted")
        return ExitCode.OK
    for problem in found.problems:
        click.echo(f"damaged: {problem}", err=True)
    click.echo(_advice(found, config_path), err=True)
    return ExitCode.DATA


def accept(config_path: Path) -> int:
    """Take note of all damage, and print of what."""
    accepted = trio.run(_accept, load_config(config_path))
    for damage in accepted:
        click.echo(f"accepted: {damage}")
    click.echo(_ACCEPTED if accepted else "there is no damage to accept")
    return ExitCode.OK


def dump(config_path: Path, wanted: Wanted, *, archived: bool) -> int:
    """Print records; a reader that goes away ends it."""
    chosen = _chosen(wanted)
    try:
        trio.run(_dump, load_config(config_path), chosen, archived)
        sys.stdout.flush()
    except BrokenPipeError:
        # Nobody reads on. What is buffered must not fail again when the interpreter exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return ExitCode.OK


def compact_journal(config_path: Path) -> int:
    """Compact, and print what was done and what was not."""
    done = trio.run(_compact, load_config(config_path))
    for line in _done(done):
        click.echo(line)
    return ExitCode.OK


def rebuild(config_path: Path) -> int:
    """Build the history anew, and print how far it goes."""
    config = load_config(config_path)
    last, damages = trio.run(_rebuild, config)
    for damage in damages:
        click.echo(f"{damage}: see `zq-daemon journal verify`", err=True)
    click.echo(f"{Path(config.state_dir) / HISTORY}: built from records 1 to {last}")
    return ExitCode.OK


async def _verify(config: DaemonConfig) -> Verification:
    return await verify(_disk(config), closed_orders=config.limits.closed_orders)


async def _accept(config: DaemonConfig) -> tuple[object, ...]:
    disk = _disk(config)
    with journal_errors():
        await require_journal(disk)
    settings = LogSettings(segment_bytes=config.limits.journal_segment_bytes)
    opening = open_log(disk, FOLDER, kind=KIND, settings=settings, rng=system_rng())
    try:
        async with opening as log:
            return await log.accept_damage()
    except LogInUseError as error:
        raise LogInUseError(f"{error}: stop the daemon first") from error


async def _compact(config: DaemonConfig) -> Compacted:
    return await compact(_disk(config), closed_orders=config.limits.closed_orders)


async def _rebuild(config: DaemonConfig) -> tuple[int, tuple[Damage, ...]]:
    """The last record in the history, and the damage that it was built without."""
    disk, databases = _disk(config), SystemDatabases(Path(config.state_dir))
    with journal_errors():
        await require_journal(disk)
    try:
        last = await rebuild_history(disk, databases)
    except (sqlite3.Error, OSError) as error:
        raise JournalError(f"{HISTORY} cannot be built: {error}") from error
    with journal_errors():
        return last, (await inspect_log(disk, FOLDER, kind=KIND)).damages


async def _dump(config: DaemonConfig, wanted: Wanted, archived: bool) -> None:
    disk, stdout = _disk(config), sys.stdout.buffer
    with journal_errors():
        await require_journal(disk)
        segments = await segment_names(disk, FOLDER)
    kept = first_of(segments[0]) if segments else 1
    after = wanted.first - 1
    if not archived and wanted.first < kept:
        click.echo(f"records 1 to {kept - 1} are archived: see them with --all", err=True)
        after = kept - 1
    left = sys.maxsize if wanted.limit is None else wanted.limit
    async with aclosing(read_journal(disk, after=after, archive=archived)) as batches:
        async for batch in batches:
            if batch.first_sequence > after + 1:
                gap = f"records {after + 1} to {batch.first_sequence - 1} are not there"
                click.echo(f"{gap}: see `zq-daemon journal verify`", err=True)
            after = batch.last_sequence
            lines = list(_lines(batch, wanted))[:left]
            stdout.write(b"".join(lines))
            stdout.flush()
            left -= len(lines)
            if not left:
                break


def _lines(batch: Batch, wanted: Wanted) -> Iterator[bytes]:
    for number, payload in enumerate(batch.payloads, batch.first_sequence):
        if wanted.kind is not None and codec.name_of(payload) != wanted.kind:
            continue
        if wanted.order is not None and not codec.is_about(payload, wanted.order):
            continue
        yield _as_line(number, payload)


def _as_line(number: int, payload: bytes) -> bytes:
    try:
        record = codec.decode(payload)
    except JournalError as error:
        raise type(error)(f"record {number}: {error}") from error
    fields: dict[str, Any] = msgspec.to_builtins(record)
    times = (each.get("ts_event_ns") for each in (fields, *fields.values()) if _is_table(each))
    ts_ns = next((each for each in times if each is not None), None)
    time = None if ts_ns is None else time_text(ts_ns)
    head = {"sequence": number, "time": time, "type": type(record).__name__}
    return msgspec.json.encode(head | fields) + b"\n"


def _is_table(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _chosen(wanted: Wanted) -> Wanted:
    """*wanted* in the journal's own words; click.UsageError for what it cannot hold."""
    order, kind = wanted.order, wanted.kind
    if order is not None:
        order = order.lower()
        if not _ORDER.fullmatch(order):
            raise click.UsageError(f"--order {wanted.order}: not 0x and 32 hexadecimal digits")
    if kind is not None:
        names = {name.lower(): name for name in codec.record_names()}
        if kind.lower() not in names:
            known = ", ".join(names.values())
            raise click.UsageError(f"--type {kind}: not one of {known}")
        kind = names[kind.lower()]
    return evolve(wanted, order=order, kind=kind)


def _told(found: Verification, state_dir: str) -> Iterator[str]:
    opening = found.opening
    yield f"journal in {Path(state_dir) / FOLDER}"
    yield (
        f"  records {opening.first_sequence} to {opening.last_sequence}, "
        f"in {_count(len(opening.segments), 'segment')}"
    )
    if found.archived:
        before = opening.first_sequence - 1
        yield f"  records up to {before} in {_count(len(found.archived), 'archived segment')}"
    for sound in found.checkpoints:
        yield f"  checkpoint {sound.name}: all up to record {sound.checkpoint.sequence}"
    for name, sequence in found.consumers.items():
        yield f"  consumer {name}: has read up to record {sequence}"
    if opening.torn_bytes:
        yield (
            f"  {opening.torn_bytes} bytes of an unfinished write at the end: nobody was told that "
            "they are durable; the next start of the daemon removes them"
        )
    for first, last in opening.gaps:
        yield f"  records {first} to {last} were torn by a power cut and never were durable"
    for damage in opening.accepted:
        yield f"  damage that was accepted: {damage}"
    for remark in found.remarks:
        yield f"  {remark}"
    if found.state is not None:
        yield from _live(found.state)


def _live(state: JournalState) -> Iterator[str]:
    live = list(state.cache.orders_live())
    yield f"  {_count(len(live), 'live order')}{':' if live else ''}"
    for order in live[:_SHOWN]:
        yield f"    {_order(order)}"
    if len(live) > _SHOWN:
        yield f"    and {len(live) - _SHOWN} more"


def _order(order: Order) -> str:
    return (
        f"{order.client_order_id} {order.strategy_id} {order.instrument_id} {order.side.value} "
        f"{order.quantity} at {order.price}, {order.filled_quantity} filled: {order.status.value}"
    )


def _advice(found: Verification, config_path: Path) -> str:
    given = named(config_path)
    if found.opening.damages:
        return (
            "Restore the files named from a backup, or let the daemon go on without what is lost, "
            "which it then asks the venue about: stop it, and run "
            f"`zq-daemon journal verify --accept-damage{given}`. It starts halted after that."
        )
    return (
        f"A checkpoint that is named: delete it, then `zq-daemon journal compact{given}`. A file "
        f"of {ARCHIVE} that is named, or whose records are missing: restore it from a backup; the "
        "daemon starts without it where a checkpoint covers it. Anything else: restore "
        "the file from a backup."
    )


def _done(done: Compacted) -> Iterator[str]:
    for problem in done.damaged:
        yield f"not used: {problem}"
    if done.checkpoint is not None:
        yield f"written: {FOLDER}/{done.checkpoint}"
    for name in done.segments:
        yield f"archived: {ARCHIVE}/{archived_name(name)}"
    for name in done.removed:
        yield f"removed: {FOLDER}/{name}, an older checkpoint"
    if not done.segments:
        yield f"nothing to archive: {done.limit}"
    else:
        yield f"the rest stays: {done.limit}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _disk(config: DaemonConfig) -> Disk:
    return SystemDisk(Path(config.state_dir))
