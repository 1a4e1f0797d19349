"""Checkpoints: the state after some record, in one file, so that older records need no replay.

Owns the file format and which one is the newest that is sound. One file, little-endian: 8 bytes of
magic, the version (u32), 4 zero bytes, then frames as in a log (`log.frame`): the first holds what
the checkpoint says of itself, each of the others a record (`journal.codec`). What does not belong
to the state (market data, from where equity is measured) is not in it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import islice

import msgspec
import structlog
from attrs import frozen

from zq_daemon.errors import JournalDamagedError, JournalError
from zq_daemon.journal import codec
from zq_daemon.journal.digest import digest
from zq_daemon.journal.files import FOLDER, checkpoint_name, checkpoint_names
from zq_daemon.journal.record import (
    FeesKept,
    InstrumentKnown,
    MarksKept,
    OrderKept,
    PositionKept,
    SeenKept,
)
from zq_daemon.journal.replay import Checkpoint, Replay
from zq_daemon.journal.state import JournalState
from zq_daemon.log.frame import encode_record, read_records
from zq_daemon.model.event import AccountUpdated
from zq_daemon.model.order import Order
from zq_daemon.ports.disk import Disk

VERSION = 1
_START = struct.Struct("<8sII")
_MAGIC = b"zq-ckpt\n"
_SEEN_EACH = 256
_MOST_ITEMS = 10_000_000

_log = structlog.get_logger("zq.journal")


@frozen(kw_only=True)
class _Head:
    """What a checkpoint says of itself; *items* follow it."""

    sequence: int
    closed_orders: int
    digest: str
    items: int


@frozen(kw_only=True)
class SoundCheckpoint:
    """One that was read and verified; *closed_orders* and *digest* are those of its state."""

    name: str
    checkpoint: Checkpoint
    closed_orders: int
    digest: str


@frozen(kw_only=True)
class Found:
    """The *newest* sound checkpoint (None: there is none), and what is wrong with newer ones."""

    newest: SoundCheckpoint | None
    damaged: tuple[str, ...]


def encode_checkpoint(state: JournalState, *, sequence: int, closed_orders: int) -> bytes:
    """The file that holds *state*, as it is after record *sequence*."""
    items = list(_items(state))
    head = _Head(
        sequence=sequence, closed_orders=closed_orders, digest=digest(state), items=len(items)
    )
    payloads = (msgspec.json.encode(head), *items)
    frames = (encode_record(number, 0, each) for number, each in enumerate(payloads, 1))
    return b"".join((_START.pack(_MAGIC, VERSION, 0), *frames))


def decode_checkpoint(name: str, data: bytes) -> SoundCheckpoint:
    """What the file *name* with these bytes holds; JournalError when it is not sound."""
    path = f"{FOLDER}/{name}"
    if len(data) < _START.size or data[: len(_MAGIC)] != _MAGIC:
        raise JournalDamagedError(f"{path}: is damaged: it does not begin like a checkpoint")
    _, version, _ = _START.unpack_from(data)
    if version != VERSION:
        raise JournalDamagedError(
            f"{path}: has format version {version}, this program reads version {VERSION}: run the "
            "program that wrote it, or a newer one"
        )
    payloads, end, _ = read_records(data, _START.size, 1, _MOST_ITEMS)
    try:
        head = msgspec.json.decode(payloads[0] if payloads else b"", type=_Head)
    except msgspec.MsgspecError:
        raise JournalDamagedError(f"{path}: is damaged: it does not say what it holds") from None
    if end != len(data) or len(payloads) != 1 + head.items:
        raise JournalDamagedError(f"{path}: is damaged at byte {end} of {len(data)}")
    if checkpoint_name(head.sequence) != name:
        raise JournalDamagedError(f"{path}: was renamed: it is of record {head.sequence}")
    return SoundCheckpoint(
        name=name,
        checkpoint=Checkpoint(sequence=head.sequence, payloads=payloads[1:]),
        closed_orders=head.closed_orders,
        digest=head.digest,
    )


async def find_checkpoint(disk: Disk) -> Found:
    """The newest checkpoint that is sound; OSError."""
    damaged = []
    for name in reversed(await checkpoint_names(disk)):
        try:
            sound = decode_checkpoint(name, await disk.read(f"{FOLDER}/{name}"))
        except FileNotFoundError:
            continue  # a compaction removed it: there is a newer one
        except JournalError as error:
            damaged.append(str(error))
            continue
        return Found(newest=sound, damaged=tuple(damaged))
    return Found(newest=None, damaged=tuple(damaged))


async def save_checkpoint(
    disk: Disk, state: JournalState, *, sequence: int, closed_orders: int
) -> SoundCheckpoint:
    """Write the checkpoint of record *sequence* durably, read it back and compare.

    Raises JournalError when it is not what was written, and then removes it; OSError.
    """
    name = checkpoint_name(sequence)
    path = f"{FOLDER}/{name}"
    await disk.replace(
        path, encode_checkpoint(state, sequence=sequence, closed_orders=closed_orders)
    )
    try:
        saved = decode_checkpoint(name, await disk.read(path))
        again = Replay(closed_orders=closed_orders, checkpoint=saved.checkpoint).finish()
        if digest(again) != saved.digest:
            raise JournalDamagedError(f"{path}: does not hold the state that was written to it")
    except JournalError:
        await disk.remove(path)
        raise
    return saved


def warn_of_damaged(found: Found) -> None:
    """Log what is wrong with checkpoints that could not be used."""
    for problem in found.damaged:
        used = "none" if found.newest is None else found.newest.name
        _log.warning("a checkpoint cannot be used", problem=problem, used=used)


def _items(state: JournalState) -> Iterator[bytes]:
    """The state as records; what others need to be understood comes first."""
    for instrument in state.instruments.values():
        yield codec.encode(InstrumentKnown(instrument))
    last = (state.ended, state.trading, *state.saved.values())
    for record in (*state.runs, *last):
        if record is not None:
            yield codec.encode(record)
    yield from _of_portfolio(state)
    for day in state.days():  # of the positions as they are
        yield codec.encode(day)
    keys = iter(state.seen.keys())
    while some := tuple(islice(keys, _SEEN_EACH)):
        yield codec.encode(SeenKept(some))
    adopted = dict.fromkeys(account_id for account_id, _ in state.adopted_ns)
    for account_id in adopted | state.stated_ns | state.agreed_ns | state.nonces:
        yield codec.encode(
            MarksKept(
                account_id=account_id,
                stated_ns=state.stated_ns.get(account_id),
                adopted_ns={
                    key[1]: at for key, at in state.adopted_ns.items() if key[0] == account_id
                },
                agreed_ns=state.agreed_ns.get(account_id),
                nonce=state.nonces.get(account_id),
            )
        )
    cache = state.cache
    yield from _of_orders(state, (*cache.orders_closed(), *cache.orders_live()))


def _of_portfolio(state: JournalState) -> Iterator[bytes]:
    portfolio = state.portfolio
    for position in portfolio.positions():
        yield codec.encode(PositionKept(position=position, strategy_id=None))
    for strategy_id in portfolio.strategy_ids():
        for position in portfolio.strategy_positions(strategy_id):
            yield codec.encode(PositionKept(position=position, strategy_id=strategy_id))
    for account_id in portfolio.account_ids():
        if fees := portfolio.fees(account_id):
            yield codec.encode(FeesKept(account_id=account_id, fees=fees))
    # The portfolio keeps the newest statement, the cache the last: in this order both get theirs.
    newest = [portfolio.account(account_id) for account_id in portfolio.account_ids()]
    for account in (*newest, *state.cache.accounts()):
        if account is not None:
            yield codec.encode(AccountUpdated(account=account, ts_event_ns=account.ts_event_ns))


def _of_orders(state: JournalState, orders: Iterable[Order]) -> Iterator[bytes]:
    for order in orders:
        client_order_id = order.client_order_id
        yield codec.encode_kept(
            OrderKept(
                order=order,
                intent=state.intents.get(client_order_id),
                terms=state.terms.get(client_order_id),
                venue_order_ids=state.cache.venue_order_ids(client_order_id),
            )
        )
