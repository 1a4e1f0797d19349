"""Records as bytes: a short binary prefix that replay reads without decoding, then JSON.

    kind u8 | flags u8 | JSON                          records that are not about a tracked order
    kind u8 | flags u8 | order 16 bytes | JSON         order events; flag 1: the order is closed now
    kind u8 | account u8 | order 16 bytes | nonce u64 big-endian | JSON        intents

The order's 16 bytes are its client order id. An intent's account is its number in the accounts of
its run. A checkpoint's order has the prefix of an order event. Kinds are never given a second
meaning: what a version does not know it refuses by number.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from zq_daemon.errors import JournalDamagedError
from zq_daemon.journal.record import (
    DayPnl,
    Declined,
    ExternalFill,
    FeesKept,
    InstrumentKnown,
    Intent,
    Kept,
    MarksKept,
    OrderKept,
    OrderRecord,
    PositionKept,
    PositionsAgreed,
    Record,
    RunEnded,
    RunStarted,
    SeenKept,
    StatementAdopted,
    StrategySaved,
)
from zq_daemon.model.event import (
    AccountUpdated,
    FundingPaid,
    OrderAccepted,
    OrderCanceled,
    OrderDenied,
    OrderExpired,
    OrderFilled,
    OrderHeld,
    OrderInitialized,
    OrderJournalled,
    OrderModified,
    OrderPending,
    OrderPendingRejected,
    OrderRejected,
    OrderReopened,
    OrderSubmitted,
    TradingStateChanged,
)
from zq_daemon.model.ids import ClientOrderId

CLOSED: Final = 1
"""The flag of an order event that left its order closed."""

_KINDS: dict[type, int] = {
    Intent: 1,
    OrderInitialized: 2,
    OrderDenied: 3,
    OrderJournalled: 4,
    OrderSubmitted: 5,
    OrderAccepted: 6,
    OrderRejected: 7,
    OrderPending: 8,
    OrderPendingRejected: 9,
    OrderModified: 10,
    OrderCanceled: 11,
    OrderExpired: 12,
    OrderFilled: 13,
    OrderReopened: 14,
    OrderHeld: 15,
    Declined: 64,
    ExternalFill: 65,
    FundingPaid: 66,
    StatementAdopted: 67,
    PositionsAgreed: 80,
    AccountUpdated: 68,
    TradingStateChanged: 69,
    InstrumentKnown: 70,
    RunStarted: 71,
    RunEnded: 72,
    DayPnl: 73,
    StrategySaved: 74,
    OrderKept: 96,
    PositionKept: 97,
    FeesKept: 98,
    SeenKept: 99,
    MarksKept: 100,
}
INTENT: Final = _KINDS[Intent]
INITIALIZED: Final = _KINDS[OrderInitialized]
FILLED: Final = _KINDS[OrderFilled]
DECLINED: Final = _KINDS[Declined]
ORDER_KEPT: Final = _KINDS[OrderKept]
FIRST_KEPT_KIND: Final = ORDER_KEPT
"""Kinds from this one on are in checkpoints only."""
LAST_ORDER_KIND: Final = 63
"""Kinds up to this one carry an order's 16 bytes."""
KEY_END: Final = 18
"""Where the order's 16 bytes, which begin at 2, end."""
NONCE_END: Final = KEY_END + 8
"""Where the nonce of an intent, which begins at `KEY_END`, ends."""

_encoder = msgspec.json.Encoder()
_NAMES = {number: kind.__name__ for kind, number in _KINDS.items()}


def order_key(client_order_id: ClientOrderId) -> bytes:
    """The 16 bytes of a client order id."""
    return bytes.fromhex(client_order_id[2:])


def encode_order(event: OrderRecord, *, closed: bool) -> bytes:
    """An event about one tracked order; *closed*: the order is, after it."""
    kind = _KINDS[type(event)]
    prefix = bytes((kind, CLOSED if closed else 0)) + order_key(event.client_order_id)
    return prefix + _encoder.encode(event)


def encode_intent(intent: Intent, account: int) -> bytes:
    """An intent; *account* is the number of its account among those of its run."""
    prefix = bytes((INTENT, account)) + order_key(intent.client_order_id)
    return prefix + intent.nonce.to_bytes(8, "big") + _encoder.encode(intent)


def encode_kept(kept: OrderKept) -> bytes:
    """An order of a checkpoint."""
    order = kept.order
    prefix = bytes((ORDER_KEPT, CLOSED if order.is_closed else 0))
    return prefix + order_key(order.client_order_id) + _encoder.encode(kept)


def encode(record: Record | Kept) -> bytes:
    """A record that is not about one tracked order."""
    return bytes((_KINDS[type(record)], 0)) + _encoder.encode(record)


def decode(payload: bytes) -> Any:
    """The `Record` (or `Kept`) that *payload* holds; JournalDamagedError when it holds none."""
    try:
        decoder, start = _READERS[payload[0]]
        return decoder.decode(payload[start:])
    except KeyError:
        raise JournalDamagedError(
            f"a record of kind {payload[0]}, which this version does not know: use the version "
            "that wrote the journal, or a newer one"
        ) from None
    except (IndexError, msgspec.MsgspecError, RecursionError) as error:
        raise JournalDamagedError(f"a record that cannot be read: {error}") from error


def record_names() -> tuple[str, ...]:
    """The names of everything that may be in a journal."""
    return tuple(each.__name__ for each, kind in _KINDS.items() if kind < FIRST_KEPT_KIND)


def name_of(payload: bytes) -> str:
    """The name of what *payload* holds; empty when this version does not know it."""
    return _NAMES.get(payload[0], "") if payload else ""


def is_about(payload: bytes, client_order_id: str) -> bool:
    """Whether a record names the order, 0x and 32 lower-case digits, without decoding it."""
    if payload and payload[0] <= LAST_ORDER_KIND:
        return payload[2:KEY_END] == bytes.fromhex(client_order_id[2:])
    return client_order_id.encode() in payload


def _body(kind: int) -> int:
    if kind == INTENT:
        return NONCE_END
    return KEY_END if kind <= LAST_ORDER_KIND or kind == ORDER_KEPT else 2


_READERS: dict[int, tuple[msgspec.json.Decoder[Any], int]] = {
    number: (msgspec.json.Decoder(kind), _body(number)) for kind, number in _KINDS.items()
}
"""For each kind what decodes it, and where its JSON begins."""
