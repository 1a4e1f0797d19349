"""Hyperliquid's JSON as typed values: one Struct for each shape, decoders built once.

Owns the shapes and nothing of their meaning: numbers stay the venue's text, times its milliseconds.
A field the daemon does not use is not named here and is skipped unread. `decode` gives the values a
meaning; only the session, the adapter and order entry come here.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

Millis = Annotated[int, Meta(ge=0, le=10**14)]
Id = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Count = Annotated[int, Meta(ge=0, le=10**9)]
Text = Annotated[str, Meta(max_length=256)]


class Level(Struct, frozen=True, gc=False):
    """One price level of a book."""

    px: str
    sz: str
    n: int = 0


class Book(Struct, frozen=True, gc=False):
    """Channel `l2Book`: every message is the full book; index 0 holds the bids."""

    coin: str
    time: Millis
    levels: tuple[list[Level], list[Level]]


class Bbo(Struct, frozen=True, gc=False):
    """Channel `bbo`: best bid and best ask."""

    coin: str
    time: Millis
    bbo: tuple[Level | None, Level | None]


class Trade(Struct, frozen=True, gc=False):
    """One element of channel `trades`; *side* is the aggressor's."""

    coin: str
    side: str
    px: str
    sz: str
    time: Millis
    tid: Id


class Candle(Struct, frozen=True, gc=False):
    """Channel `candle`: *t* to *T* (inclusive), *s*ymbol, *i*nterval, *v*olume, *n* trades."""

    t: Millis
    T: Millis
    s: Text
    i: Text
    o: str
    h: str
    l: str  # noqa: E741 -- the venue's name
    c: str
    v: str
    n: Count


class AllMids(Struct, frozen=True, gc=False):
    """Channel `allMids`: the middle price of every coin."""

    mids: dict[str, str]


class AssetContext(Struct, frozen=True, gc=False, rename="camel"):
    """What `activeAssetCtx` says of a perpetual, and `activeSpotAssetCtx` of a spot pair."""

    mark_px: str
    oracle_px: str | None = None
    funding: str | None = None
    open_interest: str | None = None


class ActiveAssetContext(Struct, frozen=True, gc=False):
    """Channel `activeAssetCtx`."""

    coin: str
    ctx: AssetContext


class Order(Struct, frozen=True, gc=False, rename="camel"):
    """An order in `orderUpdates`, `orderStatus` and `frontendOpenOrders`.

    Its terms (from *tif* on) are in the latter two only.
    """

    coin: Text
    side: str
    limit_px: str
    sz: str
    oid: Id
    timestamp: Millis
    orig_sz: str | None = None
    cloid: str | None = None
    tif: Text | None = None
    reduce_only: bool | None = None
    is_trigger: bool | None = None


class OrderUpdate(Struct, frozen=True, gc=False, rename="camel"):
    """One element of channel `orderUpdates`."""

    order: Order
    status: Text
    status_timestamp: Millis


class Fill(Struct, frozen=True, gc=False, rename="camel"):
    """One execution of ours, in `userFills` and `user`."""

    coin: Text
    px: str
    sz: str
    side: str
    time: Millis
    oid: Id
    tid: Id
    crossed: bool
    fee: str
    fee_token: Text = "USDC"
    cloid: str | None = None
    liquidation: FillLiquidation | None = None


class UserFills(Struct, frozen=True, gc=False, rename="camel"):
    """Channel `userFills`: a snapshot after subscribing, then deltas."""

    fills: list[Fill]
    is_snapshot: bool = False


class RawUserFills(Struct, frozen=True, gc=False):
    """`userFills` with its elements left undecoded, to save the good ones from a bad one."""

    fills: list[Raw]


class Funding(Struct, frozen=True, gc=False, rename="camel"):
    """A funding payment; *usdc* is positive when received."""

    time: Millis
    coin: Text
    usdc: str
    funding_rate: str


class UserFundings(Struct, frozen=True, gc=False):
    """Channel `userFundings`: a snapshot after subscribing, then deltas."""

    fundings: list[Funding]


class RawUserFundings(Struct, frozen=True, gc=False):
    """`userFundings` with its elements left undecoded."""

    fundings: list[Raw]


class Liquidation(Struct, frozen=True, gc=False):
    """A forced close, as told to everybody who was part of it."""

    liquidated_user: Text | None = None
    liquidated_ntl_pos: Text | None = None
    liquidated_account_value: Text | None = None


class FillLiquidation(Struct, frozen=True, gc=False, rename="camel"):
    """What a fill says of the forced close it was part of, on either side."""

    liquidated_user: Text | None = None


class CanceledOrder(Struct, frozen=True, gc=False):
    """An order that the venue cancelled by itself."""

    coin: Text
    oid: Id


class UserEvent(Struct, frozen=True, gc=False, rename="camel"):
    """Channel `user` (stream `userEvents`): one of these is present."""

    fills: list[Fill] | None = None
    funding: Funding | None = None
    liquidation: Raw = Raw(b"null")
    non_user_cancel: list[CanceledOrder] | None = None


class RawUserEvent(Struct, frozen=True, gc=False):
    """`user` with its fills left undecoded."""

    fills: list[Raw]


class PostResponse(Struct, frozen=True, gc=False):
    """The answer to a `post`; *kind* is `info`, `action` or `error` (then the payload is text)."""

    kind: str = msgspec.field(name="type")
    payload: Raw = Raw(b"null")


class Post(Struct, frozen=True, gc=False):
    """Channel `post`."""

    id: Id
    response: PostResponse


class Subscription(Struct, frozen=True, gc=False):
    """What a subscription names; the echo may have more or fewer fields."""

    type: str
    coin: str | None = None
    interval: str | None = None


class SubscriptionResponse(Struct, frozen=True, gc=False):
    """Channel `subscriptionResponse`."""

    method: str
    subscription: Subscription


class _Message(Struct, frozen=True, gc=False, tag_field="channel"):
    pass


class BookMessage(_Message, frozen=True, gc=False, tag="l2Book"):
    """A whole message; the tag is its channel."""

    data: Book


class BboMessage(_Message, frozen=True, gc=False, tag="bbo"):
    """A whole message; the tag is its channel."""

    data: Bbo


class TradesMessage(_Message, frozen=True, gc=False, tag="trades"):
    """A whole message; the tag is its channel."""

    data: list[Trade]


class AssetContextMessage(_Message, frozen=True, gc=False, tag="activeAssetCtx"):
    """A whole message; the tag is its channel."""

    data: ActiveAssetContext


class SpotContextMessage(_Message, frozen=True, gc=False, tag="activeSpotAssetCtx"):
    """A whole message; the tag is its channel."""

    data: ActiveAssetContext


class CandleMessage(_Message, frozen=True, gc=False, tag="candle"):
    """A whole message; the tag is its channel."""

    data: Candle


class AllMidsMessage(_Message, frozen=True, gc=False, tag="allMids"):
    """A whole message; the tag is its channel."""

    data: AllMids


class OrderUpdatesMessage(_Message, frozen=True, gc=False, tag="orderUpdates"):
    """A whole message; the tag is its channel."""

    data: list[OrderUpdate]


class UserFillsMessage(_Message, frozen=True, gc=False, tag="userFills"):
    """A whole message; the tag is its channel."""

    data: UserFills


class UserFundingsMessage(_Message, frozen=True, gc=False, tag="userFundings"):
    """A whole message; the tag is its channel."""

    data: UserFundings


class UserMessage(_Message, frozen=True, gc=False, tag="user"):
    """A whole message; the tag is its channel."""

    data: UserEvent


class PostMessage(_Message, frozen=True, gc=False, tag="post"):
    """A whole message; the tag is its channel."""

    data: Post


class SubscriptionMessage(_Message, frozen=True, gc=False, tag="subscriptionResponse"):
    """A whole message; the tag is its channel."""

    data: SubscriptionResponse


class ErrorMessage(_Message, frozen=True, gc=False, tag="error"):
    """A whole message; the tag is its channel."""

    data: str


class PongMessage(_Message, frozen=True, gc=False, tag="pong"):
    """A whole message; the tag is its channel."""


Message = (
    BookMessage
    | BboMessage
    | TradesMessage
    | AssetContextMessage
    | SpotContextMessage
    | CandleMessage
    | AllMidsMessage
    | OrderUpdatesMessage
    | UserFillsMessage
    | UserFundingsMessage
    | UserMessage
    | PostMessage
    | SubscriptionMessage
    | ErrorMessage
    | PongMessage
)


class Envelope(Struct, frozen=True, gc=False):
    """Any message, its data left undecoded."""

    channel: str
    data: Raw = Raw(b"null")


class Asset(Struct, frozen=True, gc=False, rename="camel"):
    """One perpetual of `meta`; its place in the list is its asset id."""

    name: Text
    sz_decimals: Annotated[int, Meta(ge=0, le=18)]
    max_leverage: Annotated[int, Meta(ge=1, le=1000)] = 1
    is_delisted: bool = False


class PerpetualMeta(Struct, frozen=True, gc=False):
    """Info `meta`."""

    universe: list[Asset]


class Token(Struct, frozen=True, gc=False, rename="camel"):
    """A token of `spotMeta`; pairs name it by *index*, which is not its place in the list."""

    name: Text
    index: Count
    sz_decimals: Annotated[int, Meta(ge=0, le=18)]


class SpotPair(Struct, frozen=True, gc=False):
    """A pair of `spotMeta`: *tokens* are base and quote, and *index* makes its asset id."""

    name: Text
    index: Count
    tokens: tuple[Count, Count]


class SpotMeta(Struct, frozen=True, gc=False):
    """Info `spotMeta`."""

    universe: list[SpotPair]
    tokens: list[Token]


class OpenPosition(Struct, frozen=True, gc=False, rename="camel"):
    """A position in `clearinghouseState`; *szi* is signed."""

    coin: Text
    szi: str
    entry_px: str | None = None
    unrealized_pnl: str = "0"


class AssetPosition(Struct, frozen=True, gc=False):
    """The wrapper of a position in `clearinghouseState`."""

    position: OpenPosition


class MarginSummary(Struct, frozen=True, gc=False, rename="camel"):
    """The account's figures in `clearinghouseState`."""

    account_value: str
    total_margin_used: str


class ClearinghouseState(Struct, frozen=True, gc=False, rename="camel"):
    """Info `clearinghouseState`."""

    asset_positions: list[AssetPosition]
    margin_summary: MarginSummary
    withdrawable: str
    time: Millis | None = None


class SpotBalance(Struct, frozen=True, gc=False):
    """A token in `spotClearinghouseState`; *hold* is tied up in orders."""

    coin: Text
    total: str
    hold: str


class SpotState(Struct, frozen=True, gc=False):
    """Info `spotClearinghouseState`."""

    balances: list[SpotBalance]


class OrderStatus(Struct, frozen=True, gc=False):
    """Info `orderStatus`: *status* is `order`, or `unknownOid` and no order."""

    status: str
    order: OrderUpdate | None = None


class RoleData(Struct, frozen=True, gc=False):
    """Whose agent (*user*) or sub-account (*master*) it is."""

    user: Text | None = None
    master: Text | None = None


class UserRole(Struct, frozen=True, gc=False):
    """Info `userRole`: `user`, `agent`, `vault`, `subAccount` or `missing`."""

    role: Text
    data: RoleData | None = None


class ExtraAgent(Struct, frozen=True, gc=False, rename="camel"):
    """A named agent in info `extraAgents`."""

    address: Text
    valid_until: Millis


class ExchangeStatus(Struct, frozen=True, gc=False):
    """Info `exchangeStatus`."""

    time: Millis | None = None


class VaultDetails(Struct, frozen=True, gc=False):
    """Info `vaultDetails`."""

    leader: Text


class UserRateLimit(Struct, frozen=True, gc=False, rename="camel"):
    """Info `userRateLimit`: the account's actions, sent and allowed."""

    n_requests_used: Id
    n_requests_cap: Id


class Resting(Struct, frozen=True, gc=False):
    """An order that rests on the book."""

    oid: Id


class Filled(Struct, frozen=True, gc=False, rename="camel"):
    """An order that was executed at once."""

    oid: Id
    total_sz: str
    avg_px: str


class Status(Struct, frozen=True, gc=False):
    """One status object of an action's answer: one of these is present."""

    resting: Resting | None = None
    filled: Filled | None = None
    error: str | None = None


class Statuses(Struct, frozen=True, gc=False):
    """The statuses of an action's answer, one an order: an object or a bare word."""

    statuses: list[Status | str]


class ActionData(Struct, frozen=True, gc=False):
    """The `response` of an action that was taken."""

    type: str
    data: Statuses | None = None


class ActionReply(Struct, frozen=True, gc=False):
    """The answer to an action: `ok` with data for each order, or `err` with a text for all."""

    status: str
    response: ActionData | str


def decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    """A strict JSON decoder of *kind*."""
    return msgspec.json.Decoder(kind)


decode_message = msgspec.json.Decoder[Message](Message).decode
decode_envelope = msgspec.json.Decoder(Envelope).decode
decode_action_reply = msgspec.json.Decoder(ActionReply).decode
decode_text = msgspec.json.Decoder(str).decode
encode = msgspec.json.Encoder().encode
