"""What Hyperliquid's answer to an action means for each order: taken, executed, refused, unknown.

Pure functions; nothing raises. Only words that say so make a refusal definite: everything that
may hide an order that lives (a time-out, a server error, an answer of an unknown shape, a nonce
that was seen before) is ambiguous, and the engine asks for evidence. Order entry calls it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from zq_daemon.model.ids import VenueOrderId
from zq_daemon.venue.hyperliquid import decode, wire
from zq_daemon.venue.interface import (
    MISSING_ORDER,
    Acknowledged,
    Ambiguous,
    Executed,
    Held,
    Outcome,
    Refused,
    Request,
)


class RefusalCode(StrEnum):
    """Our names of the venue's reasons."""

    TICK = "tick"
    MIN_NOTIONAL = "min_notional"
    MARGIN = "margin"
    REDUCE_ONLY = "reduce_only"
    POST_ONLY_CROSSED = "post_only_crossed"
    IOC_UNMATCHED = "ioc_unmatched"
    TRIGGER_PRICE = "trigger_price"
    NO_LIQUIDITY = "no_liquidity"
    OPEN_INTEREST = "open_interest"
    BALANCE = "balance"
    ORACLE = "oracle"
    MAX_POSITION = "max_position"
    OPEN_ORDERS = "open_orders"
    MISSING_ORDER = MISSING_ORDER
    INVALID_PRICE = "invalid_price"
    INVALID_QUANTITY = "invalid_quantity"
    POST_ONLY_PERIOD = "post_only_period"
    GROUPING = "grouping"
    LEVERAGE = "leverage"
    SCHEDULE = "schedule"
    NONCE = "nonce"
    SIGNER = "signer"
    VAULT = "vault"
    EXPIRED = "expired"
    RATE_LIMIT = "rate_limit"
    BAD_REQUEST = "bad_request"
    OTHER = "other"


# The first that is found in the lower-case text decides; prefixes such as "L1 error: " vary.
_CODES: Sequence[tuple[str, RefusalCode]] = (
    ("only post-only orders allowed", RefusalCode.POST_ONLY_PERIOD),
    ("tick size", RefusalCode.TICK),
    ("minimum value", RefusalCode.MIN_NOTIONAL),
    ("insufficient margin", RefusalCode.MARGIN),
    ("insufficient spot balance", RefusalCode.BALANCE),
    ("reduce only", RefusalCode.REDUCE_ONLY),
    ("would have immediately matched", RefusalCode.POST_ONLY_CROSSED),
    ("could not immediately match", RefusalCode.IOC_UNMATCHED),
    ("tp/sl price", RefusalCode.TRIGGER_PRICE),
    ("no liquidity available", RefusalCode.NO_LIQUIDITY),
    ("open interest", RefusalCode.OPEN_INTEREST),
    ("oracle", RefusalCode.ORACLE),
    ("reference price", RefusalCode.ORACLE),
    ("margin tier", RefusalCode.MAX_POSITION),
    ("value too large", RefusalCode.MAX_POSITION),
    ("too many open orders", RefusalCode.OPEN_ORDERS),
    ("never placed, already canceled, or filled", RefusalCode.MISSING_ORDER),
    ("cannot modify", RefusalCode.MISSING_ORDER),
    ("invalid price", RefusalCode.INVALID_PRICE),
    ("invalid size", RefusalCode.INVALID_QUANTITY),
    ("zero size", RefusalCode.INVALID_QUANTITY),
    ("main order cannot be trigger", RefusalCode.GROUPING),
    ("scheduled cancel", RefusalCode.SCHEDULE),
    ("leverage", RefusalCode.LEVERAGE),
    ("cross margin", RefusalCode.LEVERAGE),
    ("nonce", RefusalCode.NONCE),
    ("vault not registered", RefusalCode.VAULT),
    ("does not exist", RefusalCode.SIGNER),
    ("must deposit", RefusalCode.SIGNER),
    ("expire", RefusalCode.EXPIRED),
    ("too many cumulative requests", RefusalCode.RATE_LIMIT),
    ("too many requests", RefusalCode.RATE_LIMIT),
    ("rate limit", RefusalCode.RATE_LIMIT),
)

# A duplicate nonce says that an action of this signer with this nonce was taken: perhaps ours.
_INDEFINITE = re.compile(
    r"duplicate nonce|time[d]?[ -]?out|internal|unavailable|try again|overloaded|unknown error",
    re.IGNORECASE,
)
_HTTP_STATUS = re.compile(r"\b([1-5][0-9]{2})\b")
_INDEFINITE_STATUSES = frozenset({408, 429})
# What is refused by its rate was not looked at; elsewhere in a text the number may be anything.
_TOO_MANY_REQUESTS = re.compile(r"\W*(?:HTTP\S*\s+)?429\b")
_TEXT_CHARS = 300


def refusal_code(text: str) -> RefusalCode:
    """Our name of the reason in the venue's words; OTHER for words not seen before."""
    lowered = text.lower()
    return next((code for phrase, code in _CODES if phrase in lowered), RefusalCode.OTHER)


def outcomes(request: Request, response: wire.PostResponse) -> Sequence[Outcome]:
    """One outcome for each order of *request*; one for a request about no order."""
    count = max(len(request.client_order_ids), 1)
    try:
        match response.kind:
            case "action":
                return _of_action(request, count, wire.decode_action_reply(response.payload))
            case "error":
                return [_of_error(wire.decode_text(response.payload))] * count
            case other:
                return [Ambiguous(detail=f"answer of type {other[:40]!r}")] * count
    except (msgspec.MsgspecError, RecursionError) as error:
        return [Ambiguous(detail=f"answer not understood: {error}")] * count


def _of_action(request: Request, count: int, reply: wire.ActionReply) -> Sequence[Outcome]:
    match reply:
        case wire.ActionReply(status="err", response=str(text)):
            return [_of_failure(text)] * count
        case wire.ActionReply(status="ok", response=wire.ActionData(data=wire.Statuses() as data)):
            return _of_statuses(data.statuses, count)
        case wire.ActionReply(status="ok", response=wire.ActionData()) if request.kind != "submit":
            return [Acknowledged(venue_order_id=None)] * count
        case _:
            return [Ambiguous(detail=f"answer with status {reply.status[:40]!r}")] * count


def _of_statuses(statuses: Sequence[wire.Status | str], count: int) -> Sequence[Outcome]:
    # What the venue checks before it looks at single orders, it answers once for the whole batch.
    if len(statuses) == 1 < count and isinstance(statuses[0], wire.Status) and statuses[0].error:
        return [_of_status(statuses[0])] * count
    if len(statuses) != count:
        return [Ambiguous(detail=f"{len(statuses)} statuses for {count} orders")] * count
    return [_of_status(status) for status in statuses]


def _of_status(status: wire.Status | str) -> Outcome:
    match status:
        case "success" | "waitingForTrigger":
            return Acknowledged(venue_order_id=None)
        case "waitingForFill":
            return Held()
        case wire.Status(error=str(text)):
            return _refused(text)
        case wire.Status(resting=wire.Resting(oid=oid)):
            return Acknowledged(venue_order_id=VenueOrderId(str(oid)))
        case wire.Status(filled=wire.Filled() as filled):
            return _executed(filled)
        case _:
            return Ambiguous(detail=f"status {str(status)[:80]!r}")


def _executed(filled: wire.Filled) -> Outcome:
    venue_order_id = VenueOrderId(str(filled.oid))
    try:
        return Executed(
            venue_order_id=venue_order_id,
            quantity=decode.positive(filled.total_sz),
            average_price=decode.positive(filled.avg_px),
        )
    except ValueError:
        return Acknowledged(venue_order_id=venue_order_id)  # the fills tell the numbers


def _of_failure(text: str) -> Outcome:
    if _INDEFINITE.search(text):
        return Ambiguous(detail=text[:_TEXT_CHARS])
    return _refused(text)


def _of_error(text: str) -> Outcome:
    """An `error` answer carries the HTTP status that the same request would have had."""
    if _TOO_MANY_REQUESTS.match(text):
        return Refused(code=RefusalCode.RATE_LIMIT, text=text[:_TEXT_CHARS])
    found = _HTTP_STATUS.search(text)
    status = int(found[1]) if found else 0
    if not 400 <= status < 500 or status in _INDEFINITE_STATUSES or _INDEFINITE.search(text):
        return Ambiguous(detail=text[:_TEXT_CHARS])
    code = refusal_code(text)
    if code is RefusalCode.OTHER:
        code = RefusalCode.BAD_REQUEST
    return Refused(code=code, text=text[:_TEXT_CHARS])


def _refused(text: str) -> Refused:
    return Refused(code=refusal_code(text), text=text[:_TEXT_CHARS])
