"""Order entry over an in-memory sender: what is signed and sent, and what each answer means."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import attrs
import msgspec
import pytest
import trio
import trio.testing

from tests.harness.order_entry import BTC, ETH, KEY, SECRET, make_budget, make_entry
from zq_daemon.config.schema import HyperliquidConfig
from zq_daemon.errors import LinkError
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
from zq_daemon.ports.clock import NS_PER_MS, VirtualClock
from zq_daemon.venue.hyperliquid.action import wire_number
from zq_daemon.venue.hyperliquid.posts import MAX_PENDING
from zq_daemon.venue.hyperliquid.session import HyperliquidSession
from zq_daemon.venue.hyperliquid.sign import action_hash, recover_signer
from zq_daemon.venue.hyperliquid.trade import HyperliquidOrderEntry
from zq_daemon.venue.interface import (
    Acknowledged,
    Ambiguous,
    Executed,
    Held,
    Modification,
    NotSent,
    Refused,
    Reply,
)

pytestmark = pytest.mark.virtual

CONFIG = HyperliquidConfig(post_timeout_ms=10_000, order_validity_ms=15_000)


class Wire:
    """A connection in memory: keeps what was sent; *broken* makes sending fail."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.arrived = trio.Event()
        self.broken = False
        self.stuck = False

    async def send(self, message: str) -> None:
        if self.stuck:
            await trio.sleep_forever()
        if self.broken:
            raise LinkError("reset by peer")
        self.sent.append(msgspec.json.decode(message))
        self.arrived.set()

    async def payload(self) -> dict[str, Any]:
        await self.arrived.wait()
        return self.sent[-1]["request"]["payload"]


def order(counter: int = 1, **changes: Any) -> Order:
    made = Order(
        client_order_id=client_order_id(7, counter),
        strategy_id=StrategyId("s"),
        account_id=AccountId("hyperliquid.0x1"),
        instrument_id=BTC,
        side=Side.BUY,
        order_type=OrderType.LIMIT,
        quantity=Decimal("0.0100"),
        price=Decimal("50000.0"),
    )
    return attrs.evolve(made, **changes)


def entry(config: HyperliquidConfig = CONFIG) -> HyperliquidOrderEntry:
    return make_entry(config)


def reply(post_id: int, response: Any) -> Reply:
    """*response* as the session hands it over."""
    session = HyperliquidSession((), account_id=None, address=None)
    message = {"channel": "post", "data": {"id": post_id, "response": response}}
    received = session.receive(msgspec.json.encode(message), 0)
    assert not received.problem
    return received.replies[0]


def action(response: Any, status: str = "ok") -> dict[str, Any]:
    return {"type": "action", "payload": {"status": status, "response": response}}


def statuses(*given: Any) -> dict[str, Any]:
    return action({"type": "order", "data": {"statuses": list(given)}})


async def answered(response: Any, orders: int = 1, kind: str = "submit") -> Any:
    """The outcomes when the venue answers a request about *orders* orders with *response*."""
    trading, wire = entry(), Wire()
    trading.attach(wire)
    many = [order(counter) for counter in range(orders)]
    prepare = {
        "submit": trading.prepare_submit,
        "cancel": trading.prepare_cancel,
        "modify": lambda given: trading.prepare_modify(
            [Modification(each, Decimal(1), Decimal(1)) for each in given]
        ),
    }[kind]
    found: list[Any] = []

    async def send() -> None:
        found.extend(await trading.send(prepare(many)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await wire.arrived.wait()
        trading.resolve(reply(wire.sent[-1]["id"], response))
    assert trading.pending == 0
    return found[0] if orders == 1 else found


async def test_a_submission_has_the_documented_shape_and_a_valid_signature():
    trading, wire = entry(), Wire()
    trading.attach(wire)
    request = trading.prepare_submit(
        [
            order(1),
            order(2, instrument_id=ETH, side=Side.SELL, reduce_only=True, post_only=True),
            order(3, time_in_force=TimeInForce.IOC),
            order(4, order_type=OrderType.MARKET, price=Decimal("51000")),
        ]
    )
    await trading.send(request)
    message = wire.sent[0]
    assert (message["method"], message["request"]["type"]) == ("post", "action")
    payload = message["request"]["payload"]
    assert list(payload["action"]) == ["type", "orders", "grouping"]
    first, second, third, fourth = payload["action"]["orders"]
    assert list(first.items()) == [
        ("a", 0),
        ("b", True),
        ("p", "50000"),
        ("s", "0.01"),
        ("r", False),
        ("t", {"limit": {"tif": "Gtc"}}),
        ("c", "0x" + f"{7:016x}" + f"{1:016x}"),
    ]
    assert (second["a"], second["b"], second["r"]) == (1, False, True)
    tifs = [each["t"]["limit"]["tif"] for each in (second, third, fourth)]
    assert tifs == ["Alo", "Ioc", "Ioc"]
    now_ms = 1_700_000_000_000
    assert (payload["nonce"], payload["expiresAfter"]) == (now_ms, now_ms + 15_000)
    assert payload["vaultAddress"] is None
    assert request.expires_ns == (now_ms + 15_000) * NS_PER_MS
    assert _signer(payload) == KEY.address
    assert request.action_hash == action_hash(
        payload["action"], payload["nonce"], None, payload["expiresAfter"]
    )


async def test_a_cancel_names_asset_and_cloid_in_full():
    trading, wire = entry(), Wire()
    trading.attach(wire)
    await trading.send(trading.prepare_cancel([order(5, instrument_id=ETH)]))
    payload = await wire.payload()
    assert payload["action"] == {
        "type": "cancelByCloid",
        "cancels": [{"asset": 1, "cloid": client_order_id(7, 5)}],
    }
    assert _signer(payload) == KEY.address


async def test_a_modify_tells_what_shall_rest_less_what_is_filled():
    trading, wire = entry(), Wire()
    trading.attach(wire)
    live = order(6, filled_quantity=Decimal("0.004"))
    change = Modification(live, Decimal("50001"), Decimal("0.02"))
    await trading.send(trading.prepare_modify([change]))
    payload = await wire.payload()
    (modify,) = payload["action"]["modifies"]
    assert payload["action"]["type"] == "batchModify"
    assert modify["oid"] == modify["order"]["c"] == live.client_order_id
    assert (modify["order"]["p"], modify["order"]["s"]) == ("50001", "0.016")
    with pytest.raises(ValueError, match="not a price or size"):
        trading.prepare_modify([Modification(live, Decimal("50001"), Decimal("0.004"))])


@pytest.mark.parametrize(
    ("order_type", "trigger"),
    [
        (OrderType.STOP_MARKET, {"isMarket": True, "triggerPx": "49000", "tpsl": "sl"}),
        (OrderType.STOP_LIMIT, {"isMarket": False, "triggerPx": "49000", "tpsl": "sl"}),
        (OrderType.TAKE_PROFIT_MARKET, {"isMarket": True, "triggerPx": "49000", "tpsl": "tp"}),
        (OrderType.TAKE_PROFIT_LIMIT, {"isMarket": False, "triggerPx": "49000", "tpsl": "tp"}),
    ],
)
async def test_a_trigger_order_has_its_terms_in_the_documented_order(order_type, trigger):
    terms = {"order_type": order_type, "trigger_price": Decimal("49000.0"), "reduce_only": True}
    immediate = TimeInForce.IOC if order_type.is_market else TimeInForce.GTC
    request = entry().prepare_submit([order(side=Side.SELL, time_in_force=immediate, **terms)])
    action = msgspec.json.decode(request.payload)["action"]
    (wired,) = action["orders"]
    assert list(wired) == ["a", "b", "p", "s", "r", "t", "c"]
    assert list(wired["t"].items()) == [("trigger", trigger)]
    assert list(wired["t"]["trigger"]) == ["isMarket", "triggerPx", "tpsl"]
    assert (wired["r"], action["grouping"]) == (True, "na")


def grouped(orders: list[Order], **how: Any) -> str:
    payload = msgspec.json.decode(entry().prepare_submit(orders, **how).payload)
    return str(payload["action"]["grouping"])


def exits(count: int = 2, **changes: Any) -> list[Order]:
    """Stops, which protect what order 1 fills unless *changes* say otherwise."""
    terms: dict[str, Any] = {
        "order_type": OrderType.STOP_MARKET,
        "trigger_price": Decimal(49_000),
        "reduce_only": True,
        "parent_id": client_order_id(7, 1),
    }
    return [order(2 + number, **(terms | changes)) for number in range(count)]


async def test_a_bracket_is_one_group_behind_its_entry():
    assert grouped([order(1), *exits()]) == "normalTpsl"
    assert grouped([order(1), *exits(1)]) == "normalTpsl"
    assert grouped(exits(parent_id=None)) == "na"


async def test_what_protects_a_position_follows_its_size():
    assert grouped(exits(parent_id=None), protects_position=True) == "positionTpsl"


@pytest.mark.parametrize(
    ("orders", "how"),
    [
        (exits(), {}),
        ([order(9), *exits()], {}),
        ([order(1), *exits(), order(9)], {}),
        ([*exits(1), order(1)], {}),
        ([order(1), *exits()], {"protects_position": True}),
        (exits(parent_id=None, reduce_only=False), {"protects_position": True}),
        ([order(1)], {"protects_position": True}),
    ],
)
async def test_orders_that_do_not_belong_together_are_a_value_error(orders, how):
    with pytest.raises(ValueError, match="entry"):
        entry().prepare_submit(orders, **how)


async def test_several_modifications_are_one_request_with_an_outcome_each():
    trading, wire = entry(), Wire()
    trading.attach(wire)
    changes = [
        Modification(order(1), Decimal(49_000), Decimal("0.02")),
        Modification(by_hand("17", instrument_id=ETH), Decimal(3_000), Decimal("0.5")),
        Modification(exits(1)[0], Decimal(48_000), Decimal("0.01")),
    ]
    request = trading.prepare_modify(changes)
    assert request.client_order_ids == tuple(each.order.client_order_id for each in changes)
    found: list[Any] = []

    async def send() -> None:
        found.extend(await trading.send(request))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        payload = await wire.payload()
        answer = statuses({"resting": {"oid": 5}}, {"error": "Order has zero size."}, "success")
        trading.resolve(reply(1, answer))
    named = [(each["oid"], each["order"]["p"]) for each in payload["action"]["modifies"]]
    assert named == [
        (client_order_id(7, 1), "49000"),
        (17, "3000"),
        (client_order_id(7, 2), "48000"),
    ]
    assert [type(each) for each in found] == [Acknowledged, Refused, Acknowledged]


NOW_NS = 1_700_000_000_000 * NS_PER_MS


async def test_a_scheduled_cancel_is_set_and_taken_back():
    trading, wire = entry(), Wire()
    trading.attach(wire)
    for at_ns, action in (
        (NOW_NS + 60_000 * NS_PER_MS, {"type": "scheduleCancel", "time": 1_700_000_060_000}),
        (None, {"type": "scheduleCancel"}),
    ):
        request = trading.prepare_schedule_cancel(at_ns)
        assert (request.kind, request.client_order_ids) == ("schedule_cancel", ())
        with trio.move_on_after(0):
            await trading.send(request)
        assert wire.sent[-1]["request"]["payload"]["action"] == action
        assert _signer(wire.sent[-1]["request"]["payload"]) == KEY.address
    trading.prepare_schedule_cancel(NOW_NS + 5_000 * NS_PER_MS)
    with pytest.raises(ValueError, match="5000 ms ahead"):
        trading.prepare_schedule_cancel(NOW_NS + 4_999 * NS_PER_MS)


async def test_leverage_names_asset_margin_and_multiple():
    trading, wire = entry(), Wire()
    trading.attach(wire)
    request = trading.prepare_leverage(ETH, 20, is_cross=False)
    with trio.move_on_after(0):
        await trading.send(request)
    assert list((await wire.payload())["action"].items()) == [
        ("type", "updateLeverage"),
        ("asset", 1),
        ("isCross", False),
        ("leverage", 20),
    ]
    for instrument, leverage in ((ETH, 0), (InstrumentId("hyperliquid.NOPE"), 3)):
        with pytest.raises(ValueError, match=r"leverage 0|not known"):
            trading.prepare_leverage(instrument, leverage, is_cross=True)


async def test_a_request_about_no_order_has_one_outcome():
    trading = entry()
    (found,) = await trading.send(trading.prepare_schedule_cancel(None))
    assert found == NotSent(detail="no private connection")


async def test_posts_count_as_messages_and_as_weight():
    clock = VirtualClock()
    spent = make_budget(clock, weight=1_200, messages=2_000)
    trading, wire = make_entry(CONFIG, clock=clock, budget=spent), Wire()
    trading.attach(wire)
    for count in (1, 40):
        with trio.move_on_after(0):
            await trading.send(trading.prepare_submit([order(each) for each in range(count)]))
    assert (spent.status()["messages_used"], spent.status()["weight_used"]) == (2, 3)


def by_hand(oid: str | None, **changes: Any) -> Order:
    """An order without a client order id at the venue, as it is tracked."""
    known = None if oid is None else VenueOrderId(oid)
    tracked = external_client_order_id(AccountId("hyperliquid.0x1"), known or VenueOrderId("17"))
    return attrs.evolve(order(), client_order_id=tracked, venue_order_id=known, **changes)


async def test_external_orders_are_cancelled_by_order_id():
    trading, wire = entry(), Wire()
    trading.attach(wire)
    orders = [by_hand("17", instrument_id=ETH), by_hand("9000000000")]
    request = trading.prepare_cancel(orders)
    assert request.client_order_ids == tuple(each.client_order_id for each in orders)
    await trading.send(request)
    payload = await wire.payload()
    assert payload["action"] == {
        "type": "cancel",
        "cancels": [{"a": 1, "o": 17}, {"a": 0, "o": 9_000_000_000}],
    }
    assert _signer(payload) == KEY.address


async def test_one_request_does_not_cancel_external_orders_and_others():
    trading = entry()
    with pytest.raises(ValueError, match="not both"):
        trading.prepare_cancel([order(1), by_hand("17")])


@pytest.mark.parametrize("oid", [None, "", "0x17", "1.5", "-4"])
async def test_an_external_order_without_a_number_cannot_be_named(oid):
    trading = entry()
    with pytest.raises(ValueError, match="venue order id"):
        trading.prepare_cancel([by_hand(oid)])
    with pytest.raises(ValueError, match="venue order id"):
        trading.prepare_modify([Modification(by_hand(oid), Decimal(1), Decimal(1))])


async def test_an_external_order_is_modified_by_order_id_and_gets_its_client_order_id():
    trading, wire = entry(), Wire()
    trading.attach(wire)
    live = by_hand("17")
    change = Modification(live, Decimal("50001"), Decimal("0.02"))
    await trading.send(trading.prepare_modify([change]))
    (modify,) = (await wire.payload())["action"]["modifies"]
    assert modify["oid"] == 17
    assert modify["order"]["c"] == live.client_order_id


async def test_a_sub_account_is_named_and_signed():
    trading, wire = entry(), Wire()
    trading.vault_address = "0x" + "ab" * 20
    trading.attach(wire)
    await trading.send(trading.prepare_cancel([order()]))
    payload = await wire.payload()
    assert payload["vaultAddress"] == "0x" + "ab" * 20
    assert _signer(payload) == KEY.address


async def test_testnet_signs_for_testnet():
    trading, wire = entry(HyperliquidConfig(network="testnet")), Wire()
    trading.attach(wire)
    await trading.send(trading.prepare_cancel([order()]))
    payload = await wire.payload()
    assert _signer(payload, "testnet") == KEY.address
    assert _signer(payload, "mainnet") != KEY.address


async def test_nonces_grow_within_a_millisecond_and_follow_the_clock():
    trading = entry()
    nonces = [trading.prepare_cancel([order()]).nonce for _ in range(3)]
    assert nonces == [1_700_000_000_000 + step for step in range(3)]
    await trio.sleep(1)
    assert trading.prepare_cancel([order()]).nonce == 1_700_000_001_000


@pytest.mark.parametrize(
    "bad",
    [
        order(price=None),
        order(quantity=Decimal(0)),
        order(price=Decimal("NaN")),
        order(instrument_id=InstrumentId("hyperliquid.NOPE")),
        order(post_only=True, time_in_force=TimeInForce.IOC),
        order(order_type=OrderType.STOP_MARKET),
        order(order_type=OrderType.STOP_LIMIT, trigger_price=Decimal(0)),
        order(order_type=OrderType.STOP_LIMIT, trigger_price=Decimal(1), post_only=True),
        order(
            order_type=OrderType.TAKE_PROFIT_LIMIT,
            trigger_price=Decimal(1),
            time_in_force=TimeInForce.IOC,
        ),
    ],
)
async def test_what_cannot_be_written_is_a_value_error_before_a_nonce_is_spent(bad):
    trading = entry()
    with pytest.raises(ValueError, match=r"."):
        trading.prepare_submit([bad])
    assert trading.prepare_cancel([order()]).nonce == 1_700_000_000_000


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("100.000", "100"),
        ("1E+3", "1000"),
        ("0.00100", "0.001"),
        ("1200", "1200"),
        ("1E-7", "0.0000001"),
    ],
)
def test_numbers_are_written_without_trailing_zeros(value, text):
    assert wire_number(Decimal(value)) == text


async def test_the_answers_of_single_orders():
    assert await answered(statuses({"resting": {"oid": 77, "cloid": "0x1"}})) == Acknowledged(
        venue_order_id="77"
    )
    filled = {"filled": {"totalSz": "0.02", "avgPx": "1891.4", "oid": 77747314}}
    assert await answered(statuses(filled)) == Executed(
        venue_order_id="77747314", quantity=Decimal("0.02"), average_price=Decimal("1891.4")
    )
    assert await answered(
        statuses({"filled": {"totalSz": "?", "avgPx": "1", "oid": 5}})
    ) == Acknowledged(venue_order_id="5")
    assert await answered(statuses("waitingForTrigger")) == Acknowledged(venue_order_id=None)
    assert await answered(statuses("waitingForFill")) == Held()
    assert await answered(statuses("success"), kind="cancel") == Acknowledged(venue_order_id=None)


async def test_each_order_of_a_batch_has_its_own_outcome():
    found = await answered(
        statuses(
            {"resting": {"oid": 1}}, {"error": "Order has invalid price."}, "waitingForTrigger"
        ),
        orders=3,
    )
    assert found == [
        Acknowledged(venue_order_id="1"),
        Refused(code="invalid_price", text="Order has invalid price."),
        Acknowledged(venue_order_id=None),
    ]


async def test_one_error_for_a_whole_batch_is_every_orders():
    found = await answered(statuses({"error": "Order has zero size."}), orders=3)
    assert found == [Refused(code="invalid_quantity", text="Order has zero size.")] * 3


@pytest.mark.parametrize(
    "response",
    [
        statuses({"resting": {"oid": 1}}),
        statuses({"resting": {"oid": 1}}, {"resting": {"oid": 2}}, {"resting": {"oid": 3}}),
        statuses(),
        action({"type": "default"}),
        action("fine"),
        action({"type": "order", "data": {"statuses": "none"}}),
        action("text", status="maybe"),
        statuses({}, "somethingNew"),
        {"type": "info", "payload": {}},
        {"type": "error", "payload": {"no": "text"}},
        {"type": "action"},
    ],
)
async def test_an_answer_of_another_shape_is_ambiguous(response):
    found = await answered(response, orders=2)
    assert [type(outcome) for outcome in found] == [Ambiguous, Ambiguous]


@pytest.mark.parametrize("kind", ["cancel", "modify"])
async def test_a_cancel_or_modify_that_is_simply_taken_is_acknowledged(kind):
    assert await answered(action({"type": "default"}), kind=kind) == Acknowledged(
        venue_order_id=None
    )


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Price must be divisible by tick size. asset=3", "tick"),
        ("L1 error: Order must have minimum value of $10. asset=0", "min_notional"),
        ("Insufficient margin to place order. asset=0", "margin"),
        ("Reduce only order would increase position. asset=0", "reduce_only"),
        ("Post only order would have immediately matched, bbo was 1@2.", "post_only_crossed"),
        ("Order could not immediately match against any resting orders.", "ioc_unmatched"),
        ("Invalid TP/SL price.", "trigger_price"),
        ("No liquidity available for market order.", "no_liquidity"),
        ("Order price too far from oracle", "oracle"),
        ("Order was never placed, already canceled, or filled.", "missing_order"),
        ("Cannot modify canceled or filled order", "missing_order"),
        ("Order would increase open interest too quickly", "open_interest"),
        ("Too many open orders", "open_orders"),
        ("Words nobody has seen before", "other"),
    ],
)
async def test_refusals_get_our_names(text, code):
    assert await answered(statuses({"error": text})) == Refused(code=code, text=text)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("User or API Wallet 0xabc does not exist.", "signer"),
        ("L1 error: User or API Wallet 0xabc does not exist.", "signer"),
        ("Vault not registered: 0xabc", "vault"),
        ("Only post-only orders allowed immediately after a network upgrade", "post_only_period"),
        ("Invalid nonce: nonce too low", "nonce"),
        ("Too many cumulative requests sent (10001 > 10000)", "rate_limit"),
        ("Action expired: expiresAfter 5", "expired"),
    ],
)
async def test_a_whole_failure_refuses_every_order(text, code):
    found = await answered(action(text, status="err"), orders=2)
    assert found == [Refused(code=code, text=text)] * 2


@pytest.mark.parametrize(
    "text",
    [
        "Invalid nonce: duplicate nonce 1700000000000",
        "Request timed out",
        "Timeout waiting for the block",
        "Internal error",
        "Service unavailable, try again",
    ],
)
async def test_a_whole_failure_that_may_hide_a_live_order_is_ambiguous(text):
    assert await answered(action(text, status="err")) == Ambiguous(detail=text)


@pytest.mark.parametrize(
    "text",
    [
        "408 Request Timeout",
        "500 Internal Server Error",
        "502 Bad Gateway",
        "504 Gateway Timeout",
        "something without a status",
        "something with 429 in it",
        "422 Invalid nonce: duplicate nonce 5",
    ],
)
async def test_a_server_error_is_ambiguous(text):
    assert await answered({"type": "error", "payload": text}) == Ambiguous(detail=text)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("422 Unprocessable Entity: Failed to deserialize the JSON body", "bad_request"),
        ("400 Bad Request", "bad_request"),
        ("422: User or API Wallet 0xabc does not exist.", "signer"),
        ("429 Too Many Requests", "rate_limit"),
        ("429: try again later", "rate_limit"),
        ("HTTP/1.1 429 null", "rate_limit"),
    ],
)
async def test_a_client_error_is_definite(text, code):
    assert await answered({"type": "error", "payload": text}) == Refused(code=code, text=text)


async def test_without_a_connection_nothing_is_sent():
    trading = entry()
    found = await trading.send(trading.prepare_submit([order(1), order(2)]))
    assert found == [NotSent(detail="no private connection")] * 2


async def test_no_answer_is_ambiguous_after_the_time_out():
    trading, wire = entry(), Wire()
    trading.attach(wire)
    started = trio.current_time()
    (found,) = await trading.send(trading.prepare_submit([order()]))
    assert found == Ambiguous(detail="no answer within 10 s")
    assert trio.current_time() - started == pytest.approx(10)
    trading.resolve(reply(wire.sent[0]["id"], statuses({"resting": {"oid": 1}})))
    assert trading.pending == 0


async def test_a_connection_that_does_not_take_the_bytes_is_ambiguous():
    trading, wire = entry(), Wire()
    wire.stuck = True
    trading.attach(wire)
    (found,) = await trading.send(trading.prepare_submit([order()]))
    assert isinstance(found, Ambiguous)


async def test_a_failing_write_is_ambiguous():
    trading, wire = entry(), Wire()
    wire.broken = True
    trading.attach(wire)
    (found,) = await trading.send(trading.prepare_submit([order()]))
    assert found == Ambiguous(detail="connection lost while sending: reset by peer")


async def test_a_lost_connection_settles_only_what_waits_on_it():
    trading, old, new = entry(), Wire(), Wire()
    found: dict[str, Any] = {}

    async def send(name: str) -> None:
        (found[name],) = await trading.send(trading.prepare_submit([order()]))

    async with trio.open_nursery() as nursery:
        trading.attach(old)
        nursery.start_soon(send, "old")
        await old.arrived.wait()
        trading.attach(new)
        nursery.start_soon(send, "new")
        await new.arrived.wait()
        trading.detach(old)
        trading.resolve(reply(old.sent[0]["id"], statuses({"resting": {"oid": 8}})))
        trading.resolve(reply(new.sent[0]["id"], statuses({"resting": {"oid": 9}})))
    assert found["old"] == Ambiguous(detail="connection lost before the answer")
    assert found["new"] == Acknowledged(venue_order_id="9")
    assert old.sent[0]["id"] != new.sent[0]["id"]
    trading.detach(new)
    assert (await trading.send(trading.prepare_submit([order()])))[0] == NotSent(
        detail="no private connection"
    )


async def test_unanswered_requests_are_bounded():
    trading, wire = entry(), Wire()
    trading.attach(wire)
    found: list[Any] = []

    async def send(counter: int) -> None:
        found.extend(await trading.send(trading.prepare_submit([order(counter)])))

    async with trio.open_nursery() as nursery:
        for counter in range(MAX_PENDING + 3):
            nursery.start_soon(send, counter)
        await trio.testing.wait_all_tasks_blocked()
        assert trading.pending == MAX_PENDING
        assert found == [NotSent(detail="100 requests are unanswered")] * 3
        for message in wire.sent:
            trading.resolve(reply(message["id"], statuses({"resting": {"oid": message["id"]}})))
    assert len(wire.sent) == MAX_PENDING
    assert sum(isinstance(outcome, Acknowledged) for outcome in found) == MAX_PENDING


async def test_an_expired_request_does_not_leave():
    trading, wire = entry(), Wire()
    trading.attach(wire)
    request = trading.prepare_submit([order()])
    await trio.sleep(15)
    assert await trading.send(request) == [NotSent(detail="expired before it was sent")]
    assert wire.sent == []


async def test_a_cancelled_send_leaves_no_trace():
    trading, wire = entry(), Wire()
    trading.attach(wire)
    with trio.move_on_after(1) as scope:
        await trading.send(trading.prepare_submit([order()]))
    assert scope.cancelled_caught
    assert trading.pending == 0


async def test_the_signature_is_in_no_repr():
    trading, wire = entry(), Wire()
    trading.attach(wire)
    request = trading.prepare_submit([order()])
    await trading.send(request)
    signature = (await wire.payload())["signature"]
    assert signature["r"][2:] not in repr(request)
    assert SECRET not in repr(vars(trading))


def _signer(payload: dict[str, Any], network: Any = "mainnet") -> str:
    signature = payload["signature"]
    connection_id = action_hash(
        payload["action"], payload["nonce"], payload["vaultAddress"], payload["expiresAfter"]
    )
    r, s = int(signature["r"], 16), int(signature["s"], 16)
    return recover_signer(connection_id, r, s, signature["v"], network)
