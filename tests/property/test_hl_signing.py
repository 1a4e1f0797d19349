"""What order entry signs, against the official SDK's own signer and its own way to write actions.

The SDK is a test's oracle only. It gets the same key, and either the action that we sent (then the
signatures must be equal) or the same wishes as floats (then the actions must be equal as well, key
by key in the order that is hashed).
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal

import msgspec
from eth_account import Account as Wallet
from hyperliquid.utils import signing
from hyperliquid.utils.types import Cloid
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.order_entry import make_budget
from zq_daemon.config.schema import HyperliquidConfig
from zq_daemon.model.ids import (
    AccountId,
    InstrumentId,
    StrategyId,
    VenueOrderId,
    client_order_id,
    external_client_order_id,
)
from zq_daemon.model.market import Side
from zq_daemon.model.order import Order, OrderType, TimeInForce
from zq_daemon.ports.clock import NS_PER_MS
from zq_daemon.venue.hyperliquid.sign import AgentKey, action_hash, sign_l1_action
from zq_daemon.venue.hyperliquid.trade import HyperliquidOrderEntry
from zq_daemon.venue.interface import Modification, Request

INSTRUMENT = InstrumentId("hyperliquid.BTC")
ACCOUNT = AccountId("hyperliquid.0x1")
Json = Mapping[str, Any]

SECRETS = st.integers(1, 2**255).map(lambda number: number.to_bytes(32, "big"))
ADDRESSES = st.binary(min_size=20, max_size=20).map(lambda raw: f"0x{raw.hex()}")
NUMBERS = st.integers(1, 99_999).flatmap(
    lambda figures: st.integers(-6, 3).map(lambda power: Decimal(figures).scaleb(power))
)
"""Numbers that the SDK's floats carry unharmed."""
TRIGGERS = tuple(kind for kind in OrderType if kind.is_trigger)


class StillClock:
    """Stands still."""

    def __init__(self, ms: int) -> None:
        self.ms = ms

    def now_ns(self) -> int:
        return self.ms * NS_PER_MS

    def monotonic_ns(self) -> int:
        return self.now_ns()


@st.composite
def orders(draw: st.DrawFn, *, is_external: bool = False) -> Order:
    """Any order that the venue's protocol can express."""
    order_type = draw(st.sampled_from(OrderType))
    immediate = draw(st.booleans()) and not order_type.is_trigger
    oid = VenueOrderId(str(draw(st.integers(1, 10**15))))
    counter = draw(st.integers(0, 2**64 - 1))
    cloid = external_client_order_id(ACCOUNT, oid) if is_external else client_order_id(9, counter)
    return Order(
        client_order_id=cloid,
        strategy_id=StrategyId("s"),
        account_id=ACCOUNT,
        instrument_id=INSTRUMENT,
        side=draw(st.sampled_from(Side)),
        order_type=order_type,
        quantity=draw(NUMBERS),
        price=draw(NUMBERS),
        trigger_price=draw(NUMBERS) if order_type.is_trigger else None,
        time_in_force=TimeInForce.IOC if immediate else TimeInForce.GTC,
        post_only=order_type is OrderType.LIMIT and not immediate and draw(st.booleans()),
        reduce_only=draw(st.booleans()),
        venue_order_id=oid,
    )


@st.composite
def entries(draw: st.DrawFn) -> tuple[HyperliquidOrderEntry, bytes, Literal["mainnet", "testnet"]]:
    """Order entry for any key, network, asset and owner of the orders, at any time."""
    secret = draw(SECRETS)
    network: Literal["mainnet", "testnet"] = draw(st.sampled_from(["mainnet", "testnet"]))
    clock = StillClock(draw(st.integers(1, 2**42)))
    asset = draw(st.integers(0, 20_000))
    entry = HyperliquidOrderEntry(
        config=HyperliquidConfig(
            network=network, order_validity_ms=draw(st.integers(1, 86_400_000))
        ),
        clock=clock,
        key=AgentKey(secret),
        asset_of=lambda _: asset,
        budget=make_budget(clock),
        http=None,
    )
    entry.vault_address = draw(st.none() | ADDRESSES)
    return entry, secret, network


@st.composite
def requests(draw: st.DrawFn, entry: HyperliquidOrderEntry) -> Request:
    """A request of any kind that is ever sent."""
    match draw(st.sampled_from(["submit", "bracket", "protect", "cancel", "by hand", "more"])):
        case "submit":
            return entry.prepare_submit(draw(st.lists(orders(), min_size=1, max_size=5)))
        case "bracket":
            return entry.prepare_submit(_bracket(draw(st.lists(orders(), min_size=2, max_size=3))))
        case "protect":
            wanted = [each for each in draw(st.lists(orders(), max_size=4)) if _protects(each)]
            return entry.prepare_submit(wanted, protects_position=True)
        case "cancel":
            return entry.prepare_cancel(draw(st.lists(orders(), min_size=1, max_size=5)))
        case "by hand":
            by_hand = st.lists(orders(is_external=True), min_size=1, max_size=5)
            return entry.prepare_cancel(draw(by_hand))
    return draw(other_requests(entry))


@st.composite
def other_requests(draw: st.DrawFn, entry: HyperliquidOrderEntry) -> Request:
    """A modification, or one about no order."""
    match draw(st.sampled_from(["modify", "schedule", "leverage"])):
        case "modify":
            some = orders() | orders(is_external=True)
            changes = st.builds(Modification, some, NUMBERS, NUMBERS)
            return entry.prepare_modify(draw(st.lists(changes, min_size=1, max_size=5)))
        case "schedule":
            later_ns = (2**43 + draw(st.integers(0, 10**9))) * NS_PER_MS
            return entry.prepare_schedule_cancel(draw(st.sampled_from([None, later_ns])))
    leverage, is_cross = draw(st.integers(1, 50)), draw(st.booleans())
    return entry.prepare_leverage(INSTRUMENT, leverage, is_cross=is_cross)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), made=entries())
def test_every_request_has_the_sdks_own_signature(
    data: st.DataObject,
    made: tuple[HyperliquidOrderEntry, bytes, Literal["mainnet", "testnet"]],
) -> None:
    entry, secret, network = made
    request = data.draw(requests(entry))
    payload = msgspec.json.decode(request.payload)
    assert list(payload) == ["action", "nonce", "signature", "vaultAddress", "expiresAfter"]
    assert payload["vaultAddress"] == entry.vault_address
    terms = (payload["vaultAddress"], payload["nonce"], payload["expiresAfter"])
    assert request.action_hash == signing.action_hash(payload["action"], *terms)
    assert payload["signature"] == _sdk_signature(secret, payload["action"], terms, network)


@settings(max_examples=40, deadline=None)
@given(
    action=st.recursive(
        st.integers(0, 2**63) | st.text(max_size=40) | st.booleans() | st.none(),
        lambda inner: (
            st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=9), inner, max_size=5)
        ),
        max_leaves=20,
    ).map(lambda value: {"type": "noop", "x": value}),
    secret=SECRETS,
    vault=st.none() | ADDRESSES,
    nonce=st.integers(0, 2**64 - 1),
    expires=st.none() | st.integers(0, 2**64 - 1),
    network=st.sampled_from(["mainnet", "testnet"]),
)
def test_any_action_has_the_sdks_own_signature(
    action: Json,
    secret: bytes,
    vault: str | None,
    nonce: int,
    expires: int | None,
    network: Literal["mainnet", "testnet"],
) -> None:
    digest = action_hash(action, nonce, vault, expires)
    signature = sign_l1_action(AgentKey(secret), digest, network).to_wire()
    assert signature == _sdk_signature(secret, action, (vault, nonce, expires), network)


@settings(max_examples=60, deadline=None)
@given(wanted=st.lists(orders(), min_size=1, max_size=4), made=entries())
def test_orders_are_written_as_the_sdk_writes_them(
    wanted: list[Order],
    made: tuple[HyperliquidOrderEntry, bytes, Literal["mainnet", "testnet"]],
) -> None:
    entry = made[0]
    asset = entry._asset(INSTRUMENT)
    wires = [signing.order_request_to_order_wire(_sdk_order(each), asset) for each in wanted]
    assert _text(signing.order_wires_to_order_action(wires)) == _action(
        entry.prepare_submit(wanted)
    )
    for grouping, request in (
        ("normalTpsl", entry.prepare_submit(_bracket(wanted)) if len(wanted) > 1 else None),
        ("positionTpsl", _protection(entry, wanted)),
    ):
        if request is not None:
            assert msgspec.json.decode(_action(request))["grouping"] == grouping
    changes = [Modification(each, each.price or Decimal(1), each.quantity) for each in wanted]
    modifies = [
        {"oid": each.client_order_id, "order": wire}
        for each, wire in zip(wanted, wires, strict=True)
    ]
    sdk_modify = {"type": "batchModify", "modifies": modifies}
    assert _text(sdk_modify) == _action(entry.prepare_modify(changes))


def _sdk_signature(
    secret: bytes,
    action: Json,
    terms: tuple[str | None, int, int | None],
    network: Literal["mainnet", "testnet"],
) -> Json:
    wallet = Wallet.from_key(secret)
    signed: Json = signing.sign_l1_action(wallet, action, *terms, network == "mainnet")
    return signed


def _sdk_order(order: Order) -> Any:
    """The wish in the SDK's words."""
    assert order.price is not None
    return {
        "coin": "BTC",
        "is_buy": order.side is Side.BUY,
        "sz": float(order.quantity),
        "limit_px": float(order.price),
        "reduce_only": order.reduce_only,
        "order_type": _sdk_order_type(order),
        "cloid": Cloid.from_str(order.client_order_id),
    }


def _sdk_order_type(order: Order) -> Json:
    if order.trigger_price is not None:
        return {
            "trigger": {
                "triggerPx": float(order.trigger_price),
                "isMarket": order.order_type
                in (OrderType.STOP_MARKET, OrderType.TAKE_PROFIT_MARKET),
                "tpsl": "sl"
                if order.order_type in (OrderType.STOP_MARKET, OrderType.STOP_LIMIT)
                else "tp",
            }
        }
    if order.order_type is OrderType.MARKET or order.time_in_force is TimeInForce.IOC:
        return {"limit": {"tif": "Ioc"}}
    return {"limit": {"tif": "Alo" if order.post_only else "Gtc"}}


def _bracket(wanted: list[Order]) -> list[Order]:
    entry, *exits = wanted
    parent = {"parent_id": entry.client_order_id}
    return [entry, *(each.with_changes(parent) for each in exits)]


def _protects(order: Order) -> bool:
    return order.order_type in TRIGGERS and order.reduce_only


def _protection(entry: HyperliquidOrderEntry, wanted: list[Order]) -> Request | None:
    protective = [each for each in wanted if _protects(each)]
    return entry.prepare_submit(protective, protects_position=True) if protective else None


def _text(action: Any) -> bytes:
    """Also the order of keys counts."""
    return msgspec.json.encode(action)


def _action(request: Request) -> bytes:
    return bytes(msgspec.json.decode(request.payload, type=dict[str, msgspec.Raw])["action"])
