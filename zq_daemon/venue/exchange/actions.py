"""Actions as the wire has them, parsed and typed; anything else is `Malformed`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec

from zq_daemon.venue.exchange.envelope import Malformed

Cloid = Annotated[str, msgspec.Meta(pattern="^0x[0-9a-fA-F]{32}$")]
Address = Annotated[str, msgspec.Meta(pattern="^0x[0-9a-fA-F]{40}$")]
Tif = Literal["Gtc", "Ioc", "Alo", "FrontendMarket"]
_Asset = Annotated[int, msgspec.Meta(ge=0)]
_Number = Annotated[str, msgspec.Meta(max_length=40)]
_Token = Annotated[str, msgspec.Meta(max_length=80)]
_Amount = Annotated[int, msgspec.Meta(ge=-(10**15), le=10**15)]


class LimitTerms(msgspec.Struct):
    """Time in force."""

    tif: Tif


class TriggerTerms(msgspec.Struct, rename="camel"):
    """Wait until the mark reaches *trigger_px*: a stop loss or a take profit."""

    is_market: bool
    trigger_px: _Number
    tpsl: Literal["tp", "sl"]


class OrderTerms(msgspec.Struct):
    """Kind of order: exactly one of the two is there."""

    limit: LimitTerms | None = None
    trigger: TriggerTerms | None = None

    def __post_init__(self) -> None:
        if (self.limit is None) == (self.trigger is None):
            raise ValueError("expected either limit or trigger")


class WireOrder(msgspec.Struct):
    """One order: asset, buy, price, size, reduce-only, terms, client order id."""

    a: _Asset
    b: bool
    p: _Number
    s: _Number
    r: bool
    t: OrderTerms
    c: Cloid | None = None


Grouping = Literal["na", "normalTpsl", "positionTpsl"]


class Priority(msgspec.Struct):
    """Pay to be matched sooner: tolerated in place of a grouping, without effect."""

    p: Annotated[int, msgspec.Meta(ge=0)]


class Builder(msgspec.Struct):
    """Who is paid for having routed the order: tolerated, never paid."""

    b: Address
    f: Annotated[int, msgspec.Meta(ge=0)]


class Order(msgspec.Struct, tag="order"):
    """Place orders; *grouping* ties take profit and stop loss to the first or to the position."""

    orders: Annotated[list[WireOrder], msgspec.Meta(max_length=1000)]
    grouping: Grouping | Priority = "na"
    builder: Builder | None = None


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
    """Choose the leverage of an asset, and whether all or only this position's margin backs it."""

    asset: _Asset
    is_cross: bool
    leverage: Annotated[int, msgspec.Meta(ge=1)]


class UpdateIsolatedMargin(msgspec.Struct, tag="updateIsolatedMargin", rename="camel"):
    """Add *ntli* millionths of a dollar to an isolated position; negative takes them away."""

    asset: _Asset
    is_buy: bool
    ntli: _Amount


class ScheduleCancel(msgspec.Struct, tag="scheduleCancel"):
    """Cancel everything at *time* (ms); without a time: no longer."""

    time: Annotated[int, msgspec.Meta(ge=0)] | None = None


class CreateSubAccount(msgspec.Struct, tag="createSubAccount"):
    """Open an account that the signer's account controls."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=16)]


class SubAccountTransfer(msgspec.Struct, tag="subAccountTransfer", rename="camel"):
    """Move *usd* millionths of a dollar of perpetuals' collateral to or from a sub-account."""

    sub_account_user: Address
    is_deposit: bool
    usd: Annotated[int, msgspec.Meta(ge=0, le=10**15)]


class SubAccountSpotTransfer(msgspec.Struct, tag="subAccountSpotTransfer", rename="camel"):
    """Move a token's spot balance to or from a sub-account."""

    sub_account_user: Address
    is_deposit: bool
    token: _Token
    amount: _Number


class ApproveAgent(msgspec.Struct, tag="approveAgent", rename="camel"):
    """Let an agent sign for the account; one without a name takes the place of the last."""

    agent_address: Address
    agent_name: Annotated[str, msgspec.Meta(max_length=64)] | None = None


class UsdClassTransfer(msgspec.Struct, tag="usdClassTransfer", rename="camel"):
    """Move dollars between the perpetuals' and the spot balance, maybe of a sub-account."""

    amount: Annotated[str, msgspec.Meta(max_length=100)]
    to_perp: bool


class UsdSend(msgspec.Struct, tag="usdSend"):
    """Give dollars of perpetuals' collateral to another account."""

    destination: Address
    amount: _Number


class SpotSend(msgspec.Struct, tag="spotSend"):
    """Give another account of a token."""

    destination: Address
    token: _Token
    amount: _Number


class SendAsset(msgspec.Struct, tag="sendAsset", rename="camel"):
    """Give a token, from wallet to wallet: `` is the perpetuals', `spot` the spot one."""

    destination: Address
    source_dex: Annotated[str, msgspec.Meta(max_length=40)]
    destination_dex: Annotated[str, msgspec.Meta(max_length=40)]
    token: _Token
    amount: _Number
    from_sub_account: Annotated[str, msgspec.Meta(pattern="^(0x[0-9a-fA-F]{40})?$")] = ""


class Withdraw(msgspec.Struct, tag="withdraw3"):
    """Leave for another chain: refused, there is none."""

    destination: Address
    amount: _Number


class ApproveBuilderFee(msgspec.Struct, tag="approveBuilderFee", rename="camel"):
    """Agree to a builder's fee: tolerated, none is ever taken."""

    builder: Address
    max_fee_rate: Annotated[str, msgspec.Meta(max_length=40)]


class Noop(msgspec.Struct, tag="noop"):
    """Nothing, but its nonce is used up."""


Movement = (
    UsdClassTransfer | UsdSend | SpotSend | SendAsset | SubAccountTransfer | SubAccountSpotTransfer
)
Administration = UpdateIsolatedMargin | CreateSubAccount | ApproveAgent | Withdraw | Movement
Action = (
    Order
    | Cancel
    | CancelByCloid
    | BatchModify
    | Modify
    | ScheduleCancel
    | UpdateLeverage
    | ApproveBuilderFee
    | Noop
    | Administration
)


def assets_of(action: Action) -> Sequence[int]:
    """The assets that *action* places, changes or cancels orders in."""
    match action:
        case Order():
            return [each.a for each in action.orders]
        case Cancel():
            return [each.a for each in action.cancels]
        case CancelByCloid():
            return [each.asset for each in action.cancels]
        case BatchModify():
            return [each.order.a for each in action.modifies]
        case Modify():
            return [action.order.a]
        case _:
            return ()


def parse_action(raw: dict[str, Any]) -> Action:
    """The typed action; raises Malformed."""
    try:
        action: Action = msgspec.convert(raw, Action)
    except (msgspec.ValidationError, RecursionError) as error:
        raise Malformed from error
    return action
