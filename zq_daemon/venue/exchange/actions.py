"""Actions as the wire has them, parsed and typed; anything else is `Malformed`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from zq_daemon.venue.exchange.envelope import Malformed

Cloid = Annotated[str, msgspec.Meta(pattern="^0x[0-9a-fA-F]{32}$")]
Tif = Literal["Gtc", "Ioc", "Alo"]
_Asset = Annotated[int, msgspec.Meta(ge=0)]
_Number = Annotated[str, msgspec.Meta(max_length=40)]


class LimitTerms(msgspec.Struct):
    """Time in force."""

    tif: Tif


class OrderTerms(msgspec.Struct):
    """Kind of order: limit orders only here (no triggers)."""

    limit: LimitTerms


class WireOrder(msgspec.Struct):
    """One order: asset, buy, price, size, reduce-only, terms, client order id."""

    a: _Asset
    b: bool
    p: _Number
    s: _Number
    r: bool
    t: OrderTerms
    c: Cloid | None = None


class Order(msgspec.Struct, tag="order"):
    """Place orders."""

    orders: Annotated[list[WireOrder], msgspec.Meta(max_length=1000)]
    grouping: Literal["na"] = "na"


class WireCancel(msgspec.Struct):
    """One cancel by the venue's order id."""

    a: _Asset
    o: int


class Cancel(msgspec.Struct, tag="cancel"):
    """Cancel by order id."""

    cancels: Annotated[list[WireCancel], msgspec.Meta(max_length=1000)]


class WireCancelByCloid(msgspec.Struct):
    """One cancel by client order id."""

    asset: _Asset
    cloid: Cloid


class CancelByCloid(msgspec.Struct, tag="cancelByCloid"):
    """Cancel by client order id."""

    cancels: Annotated[list[WireCancelByCloid], msgspec.Meta(max_length=1000)]


class WireModify(msgspec.Struct):
    """One cancel-replace of the order *oid* (order id or client order id)."""

    oid: int | Cloid
    order: WireOrder


class BatchModify(msgspec.Struct, tag="batchModify"):
    """Several cancel-replaces."""

    modifies: Annotated[list[WireModify], msgspec.Meta(max_length=1000)]


class Modify(msgspec.Struct, tag="modify"):
    """One cancel-replace, answered without statuses."""

    oid: int | Cloid
    order: WireOrder


class UpdateLeverage(msgspec.Struct, tag="updateLeverage", rename="camel"):
    """Choose the leverage of an asset; cross margin is all there is."""

    asset: _Asset
    is_cross: bool
    leverage: Annotated[int, msgspec.Meta(ge=1)]


class Noop(msgspec.Struct, tag="noop"):
    """Nothing, but its nonce is used up."""


Action = Order | Cancel | CancelByCloid | BatchModify | Modify | UpdateLeverage | Noop


def parse_action(raw: dict[str, Any]) -> Action:
    """The typed action; raises Malformed."""
    try:
        action: Action = msgspec.convert(raw, Action)
    except (msgspec.ValidationError, RecursionError) as error:
        raise Malformed from error
    return action
