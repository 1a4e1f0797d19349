"""The adapter's queries against an `/info` server in memory, with the venue's real answers."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import h11
import msgspec
import pytest
import trio
import trio.testing

from zq_daemon.config.schema import HyperliquidConfig
from zq_daemon.errors import ConfigError, DecodeError, LinkError, LinkRefused
from zq_daemon.model.ids import ClientOrderId, VenueOrderId, external_client_order_id
from zq_daemon.model.instrument import InstrumentKind, PriceRounding
from zq_daemon.model.market import Side
from zq_daemon.model.order import OrderStatus, TimeInForce
from zq_daemon.ports.clock import VirtualClock
from zq_daemon.ports.rng import seeded_rng
from zq_daemon.venue.hyperliquid.adapter import HyperliquidAdapter
from zq_daemon.venue.hyperliquid.sign import AgentKey

pytestmark = pytest.mark.virtual

MASTER = "0x5e9ee1089755c3435139848e47e6635505d5a13a"
KEY = AgentKey(bytes(31) + b"\x01")
CLOID = ClientOrderId("0x" + "0" * 31 + "1")
META = {
    "universe": [
        {"name": "BTC", "szDecimals": 5, "maxLeverage": 50},
        {"name": "GONE", "szDecimals": 1, "maxLeverage": 3, "isDelisted": True},
        {"name": "kPEPE", "szDecimals": 0, "maxLeverage": 10},
    ]
}
SPOT = {
    "tokens": [
        {"name": "USDC", "szDecimals": 8, "weiDecimals": 8, "index": 0, "isCanonical": True},
        {"name": "USDT0", "szDecimals": 2, "weiDecimals": 8, "index": 268, "isCanonical": False},
        {"name": "PURR", "szDecimals": 0, "weiDecimals": 5, "index": 1, "isCanonical": True},
        {"name": "UBTC", "szDecimals": 5, "weiDecimals": 10, "index": 197, "isCanonical": False},
    ],
    "universe": [
        {"name": "PURR/USDC", "tokens": [1, 0], "index": 0, "isCanonical": True},
        {"name": "@142", "tokens": [197, 0], "index": 142, "isCanonical": False},
        {"name": "@166", "tokens": [268, 0], "index": 166, "isCanonical": False},
        {"name": "@254", "tokens": [197, 268], "index": 254, "isCanonical": False},
    ],
}
NO_SPOT: dict[str, Any] = {"universe": [], "tokens": []}
STATE: dict[str, Any] = {
    "assetPositions": [
        {
            "type": "oneWay",
            "position": {
                "coin": "BTC",
                "szi": "-0.5",
                "entryPx": "100",
                "unrealizedPnl": "-2.5",
                "leverage": {"type": "cross", "value": 20},
            },
        },
        {"type": "oneWay", "position": {"coin": "kPEPE", "szi": "0.0", "entryPx": None}},
    ],
    "marginSummary": {"accountValue": "1000.5", "totalMarginUsed": "10", "totalRawUsd": "1050"},
    "withdrawable": "900",
    "time": 1_700_000_000_123,
}
ORDER = {
    "coin": "kPEPE",
    "side": "B",
    "limitPx": "0.01",
    "sz": "70",
    "oid": 17,
    "timestamp": 1_700_000_000_000,
    "origSz": "100",
    "cloid": CLOID,
    "orderType": "Limit",
    "tif": "Gtc",
    "reduceOnly": False,
    "isTrigger": False,
    "children": [],
}
FILL = {
    "coin": "kPEPE",
    "px": "0.01",
    "sz": "30",
    "side": "B",
    "time": 1_700_000_000_007,
    "startPosition": "0.0",
    "dir": "Open Long",
    "closedPnl": "0.0",
    "hash": "0x0",
    "oid": 17,
    "crossed": False,
    "fee": "0.001",
    "tid": 900,
    "feeToken": "USDC",
    "cloid": CLOID,
}


class InfoServer:
    """A network with `/info` behind every host.

    *answers* by request type: a body, a status, or a function from the query to one.
    """

    def __init__(self, nursery: trio.Nursery, **answers: Any) -> None:
        self._nursery = nursery
        self.answers: dict[str, Any] = {"userRole": {"role": "user"}, "spotMeta": NO_SPOT} | answers
        self.asked: list[dict[str, Any]] = []
        self.hosts: list[tuple[str, int, bool]] = []

    async def connect(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.hosts.append((host, port, tls))
        ours, theirs = trio.testing.memory_stream_pair()
        self._nursery.start_soon(self._serve, theirs)
        return ours

    async def _serve(self, stream: trio.abc.Stream) -> None:
        protocol = h11.Connection(h11.SERVER)
        body = b""
        while True:
            match protocol.next_event():
                case h11.NEED_DATA:
                    protocol.receive_data(bytes(await stream.receive_some(65536)))
                case h11.Data(data=data):
                    body += data
                case h11.EndOfMessage():
                    await stream.send_all(self._answer(protocol, msgspec.json.decode(body)))
                    protocol.start_next_cycle()
                    body = b""
                case h11.ConnectionClosed():
                    return
                case _:
                    pass

    def _answer(self, protocol: h11.Connection, query: dict[str, Any]) -> bytes:
        self.asked.append(query)
        answer = self.answers.get(query["type"], 422)
        answer = answer(query) if callable(answer) else answer
        status, content = (answer, b"no") if isinstance(answer, int) else (200, answer)
        if not isinstance(content, bytes):
            content = msgspec.json.encode(content)
        length = [("Content-Length", str(len(content)))]
        head = protocol.send(h11.Response(status_code=status, headers=length))
        return head + protocol.send(h11.Data(data=content)) + protocol.send(h11.EndOfMessage())


def adapter(connects: Any, key: AgentKey | None = KEY, **config: Any) -> HyperliquidAdapter:
    settings: dict[str, Any] = {"account": MASTER} | config
    config = HyperliquidConfig(**settings)
    return HyperliquidAdapter(config, connects, VirtualClock(), key, seeded_rng(1))


async def test_instruments_are_numbered_by_their_place_and_keep_their_case():
    async with trio.open_nursery() as nursery:
        server = InfoServer(nursery, meta=META)
        venue = adapter(server)
        btc, gone, pepe = await venue.load_instruments()
        assert server.hosts == [("api.hyperliquid.xyz", 443, True)]
        assert [each.asset_id for each in (btc, gone, pepe)] == [0, 1, 2]
        assert (pepe.id, pepe.symbol) == ("hyperliquid.kPEPE", "kPEPE")
        assert (btc.delisted, gone.delisted) == (False, True)
        assert (btc.kind, btc.quote_currency) == (InstrumentKind.PERPETUAL, "USDC")
        assert (btc.price_decimals, btc.price_figures, btc.quantity_decimals) == (1, 5, 5)
        assert (btc.min_notional, btc.max_leverage) == (Decimal(10), 50)
        assert pepe.round_price(Decimal("0.0123456789"), PriceRounding.DOWN) == Decimal("0.012345")
        assert btc.round_price(Decimal("123456.7"), PriceRounding.DOWN) == Decimal(123456)
        await venue.aclose()


async def test_spot_pairs_are_numbered_by_their_index_and_named_as_they_are():
    async with trio.open_nursery() as nursery:
        venue = adapter(InfoServer(nursery, meta=META, spotMeta=SPOT))
        loaded = {each.symbol: each for each in await venue.load_instruments()}
        assert list(loaded) == ["BTC", "GONE", "kPEPE", "PURR/USDC", "@142", "@166", "@254"]
        purr, btc, crossed = loaded["PURR/USDC"], loaded["@142"], loaded["@254"]
        assert (purr.id, btc.id) == ("hyperliquid.PURR/USDC", "hyperliquid.@142")
        assert [each.asset_id for each in (purr, btc, crossed)] == [10_000, 10_142, 10_254]
        assert {each.kind for each in (purr, btc, crossed)} == {InstrumentKind.SPOT}
        assert (purr.base_currency, purr.quote_currency) == ("PURR", "USDC")
        assert (crossed.base_currency, crossed.quote_currency) == ("UBTC", "USDT0")
        assert (purr.price_decimals, purr.quantity_decimals) == (8, 0)
        assert (btc.price_decimals, btc.quantity_decimals) == (3, 5)
        assert (btc.price_figures, btc.min_notional, btc.max_leverage) == (5, Decimal(10), 1)
        streams = ("l2Book:@142", "trades:PURR/USDC", "orderUpdates")
        assert len(venue.session(streams).opening()) == 3
        assert venue.coverage(streams) == (("book", btc.id), ("trade", purr.id))
        await venue.aclose()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (500, LinkError),
        (422, LinkRefused),
        (b"null", DecodeError),
        (SPOT | {"tokens": []}, DecodeError),
        (SPOT | {"tokens": SPOT["tokens"] * 2}, DecodeError),
        (SPOT | {"universe": SPOT["universe"] * 2}, DecodeError),
        (SPOT | {"universe": [{"name": "@1", "tokens": [0], "index": 1}]}, DecodeError),
        (SPOT | {"universe": [{"name": "BTC", "tokens": [1, 0], "index": 1}]}, DecodeError),
        (SPOT | {"universe": [{"name": "@1", "tokens": [1, 0], "index": -1}]}, DecodeError),
    ],
)
async def test_spot_pairs_that_cannot_be_understood_are_told(answer, error):
    async with trio.open_nursery() as nursery:
        venue = adapter(InfoServer(nursery, meta=META, spotMeta=answer))
        with pytest.raises(error, match="spotMeta"):
            await venue.load_instruments()
        await venue.aclose()


async def test_a_coin_the_venue_has_not_is_refused_once_that_is_known():
    async with trio.open_nursery() as nursery:
        venue = adapter(InfoServer(nursery, meta=META))
        venue.session(("trades:KPEPE",))
        await venue.load_instruments()
        with pytest.raises(ValueError, match=r"'trades:KPEPE'.*case matters"):
            venue.session(("l2Book:BTC", "trades:KPEPE"))
        assert len(venue.session(("l2Book:BTC", "trades:kPEPE", "userFills")).opening()) == 3
        await venue.aclose()


async def test_the_account_is_asked_about_by_its_own_address():
    async with trio.open_nursery() as nursery:
        server = InfoServer(nursery, clearinghouseState=STATE, frontendOpenOrders=[ORDER])
        venue = adapter(server, account=MASTER.upper().replace("X", "x"))
        report = await venue.load_account()
        assert venue.account_id == f"hyperliquid.{MASTER}" == report.account.account_id
        assert {query["user"] for query in server.asked} == {MASTER}
        assert KEY.address != MASTER
        await venue.aclose()
    account = report.account
    assert (account.equity, account.margin_used) == (Decimal("1000.5"), Decimal(10))
    (balance,) = account.balances
    assert (balance.currency, balance.total, balance.free) == (
        "USDC",
        Decimal("1003.0"),
        Decimal(900),
    )
    assert account.ts_event_ns == 1_700_000_000_123_000_000
    short, flat = report.positions
    assert (short.instrument_id, short.quantity) == ("hyperliquid.BTC", Decimal("-0.5"))
    assert (short.average_entry_price, flat.average_entry_price) == (Decimal(100), None)
    (order,) = report.open_orders
    assert (order.client_order_id, order.venue_order_id) == (CLOID, "17")
    assert (order.side, order.status) == (Side.BUY, OrderStatus.ACCEPTED)
    assert (order.quantity, order.remaining) == (Decimal(100), Decimal(70))


async def test_an_agents_address_is_refused_as_the_account():
    async with trio.open_nursery() as nursery:
        role = {"role": "agent", "data": {"user": "0x" + "1" * 40}}
        venue = adapter(InfoServer(nursery, userRole=role))
        with pytest.raises(LinkRefused, match="is an agent"):
            await venue.load_account()
        await venue.aclose()


@pytest.mark.parametrize(
    ("role", "named"), [("subAccount", True), ("vault", True), ("user", False)]
)
async def test_a_sub_account_is_named_in_what_is_signed(role, named):
    async with trio.open_nursery() as nursery:
        server = InfoServer(nursery, clearinghouseState=STATE, frontendOpenOrders=[])
        server.answers["userRole"] = {"role": role}
        venue = adapter(server)
        await venue.load_account()
        await venue.load_account()
        assert [query["type"] for query in server.asked].count("userRole") == 1
        assert venue.order_entry is not None
        assert venue.order_entry.vault_address == (MASTER if named else None)
        await venue.aclose()


async def test_an_order_is_asked_for_by_client_order_id():
    update = {"order": ORDER | {"sz": "0.0"}, "status": "filled", "statusTimestamp": 5}
    async with trio.open_nursery() as nursery:
        server = InfoServer(nursery, orderStatus={"status": "order", "order": update})
        venue = adapter(server)
        report = await venue.query_order(CLOID)
        assert server.asked == [{"type": "orderStatus", "user": MASTER, "oid": CLOID}]
        assert report is not None
        assert (report.status, report.venue_order_id) == (OrderStatus.FILLED, "17")
        bare = {name: value for name, value in ORDER.items() if name != "cloid"}
        server.answers["orderStatus"] = {"status": "order", "order": update | {"order": bare}}
        report = await venue.query_order(CLOID)
        assert report is not None
        assert report.client_order_id == CLOID
        server.answers["orderStatus"] = {"status": "unknownOid"}
        assert await venue.query_order(CLOID) is None
        other = ORDER | {"cloid": "0x" + "9" * 32}
        server.answers["orderStatus"] = {"status": "order", "order": update | {"order": other}}
        with pytest.raises(DecodeError, match="asked for"):
            await venue.query_order(CLOID)
        await venue.aclose()


def placed_by_hand(oid: int = 17, status: str = "open", **changes: Any) -> dict[str, Any]:
    """The answer about an order without a client order id."""
    row = {"order": ORDER | {"oid": oid, "cloid": None} | changes, "status": status}
    return {"status": "order", "order": row | {"statusTimestamp": 5}}


async def test_an_external_order_is_asked_for_by_its_venue_order_id():
    async with trio.open_nursery() as nursery:
        server = InfoServer(nursery, orderStatus=placed_by_hand())
        venue = adapter(server)
        assert venue.account_id is not None
        oid = VenueOrderId("17")
        synthetic = external_client_order_id(venue.account_id, oid)
        report = await venue.query_order(synthetic, oid)
        assert server.asked == [{"type": "orderStatus", "user": MASTER, "oid": 17}]
        assert report is not None
        assert (report.client_order_id, report.venue_order_id) == (synthetic, "17")
        server.answers["orderStatus"] = placed_by_hand(18)
        with pytest.raises(DecodeError, match="asked for 17, told 18"):
            await venue.query_order(synthetic, oid)
        await venue.aclose()


async def test_an_external_order_that_ended_may_have_been_replaced_by_us():
    async with trio.open_nursery() as nursery:
        server = InfoServer(nursery)
        venue = adapter(server)
        assert venue.account_id is not None
        oid = VenueOrderId("17")
        synthetic = external_client_order_id(venue.account_id, oid)
        told: dict[int | str, Any] = {17: placed_by_hand(status="canceled")}
        nothing = {"status": "unknownOid"}
        server.answers["orderStatus"] = lambda query: told.get(query["oid"], nothing)
        report = await venue.query_order(synthetic, oid)
        assert report is not None
        assert report.status is OrderStatus.CANCELED
        told[synthetic] = placed_by_hand(21, cloid=synthetic)
        report = await venue.query_order(synthetic, oid)
        assert report is not None
        assert (report.status, report.venue_order_id) == (OrderStatus.ACCEPTED, "21")
        del told[17]
        report = await venue.query_order(synthetic, oid)
        assert report is not None
        assert report.venue_order_id == "21"
        told.clear()
        assert await venue.query_order(synthetic, oid) is None
        assert [query["oid"] for query in server.asked] == [17, synthetic] * 4
        await venue.aclose()


@pytest.mark.parametrize("oid", [None, "", "x", "-1", "0", "1.0", "9" * 20, "17 "])
async def test_an_external_order_without_a_number_is_asked_for_by_what_there_is(oid):
    async with trio.open_nursery() as nursery:
        server = InfoServer(nursery, orderStatus={"status": "unknownOid"})
        venue = adapter(server)
        assert await venue.query_order(CLOID, oid) is None
        assert [query["oid"] for query in server.asked] == [CLOID]
        await venue.aclose()


async def test_an_order_of_ours_is_asked_for_by_client_order_id_whatever_else_is_known():
    ours = ClientOrderId("0x" + "7" * 32)
    async with trio.open_nursery() as nursery:
        server = InfoServer(nursery, orderStatus={"status": "unknownOid"})
        venue = adapter(server)
        await venue.query_order(ours, VenueOrderId("17"))
        assert [query["oid"] for query in server.asked] == [ours]
        await venue.aclose()


@pytest.mark.parametrize(
    ("tif", "time_in_force", "post_only"),
    [
        ("Gtc", TimeInForce.GTC, False),
        ("Alo", TimeInForce.GTC, True),
        ("Ioc", TimeInForce.IOC, False),
        ("FrontendMarket", TimeInForce.IOC, False),
        ("Gtd", None, False),
        (None, None, None),
    ],
)
async def test_a_statement_tells_what_an_order_needs_to_be_adopted(tif, time_in_force, post_only):
    terms = {"tif": tif, "reduceOnly": True, "isTrigger": tif is None, "cloid": None}
    async with trio.open_nursery() as nursery:
        orders = [ORDER | terms]
        venue = adapter(InfoServer(nursery, clearinghouseState=STATE, frontendOpenOrders=orders))
        (order,) = (await venue.load_account()).open_orders
        await venue.aclose()
    assert order.client_order_id is None
    assert (order.time_in_force, order.post_only) == (time_in_force, post_only)
    assert (order.reduce_only, order.is_trigger) == (True, tif is None)
    assert order.ts_event_ns == 1_700_000_000_000_000_000


async def test_fills_are_asked_for_by_time_and_told_once():
    later = FILL | {"tid": 901, "time": 1_700_000_000_009, "cloid": None}
    other_side = later | {"side": "A", "oid": 18}
    async with trio.open_nursery() as nursery:
        server = InfoServer(nursery, userFillsByTime=[FILL, later, other_side, later])
        venue = adapter(server)
        history = await venue.load_fills(1_700_000_000_007_999_999)
        assert server.asked[-1] == {
            "type": "userFillsByTime",
            "user": MASTER,
            "startTime": 1_700_000_000_007,
        }
        await venue.load_fills(-1)
        assert server.asked[-1]["startTime"] == 0
        await venue.aclose()
    assert history.complete
    first, second, third = history.fills
    assert (first.trade_id, first.client_order_id, first.venue_order_id) == ("900", CLOID, "17")
    assert (first.price, first.quantity) == (Decimal("0.01"), Decimal(30))
    assert (second.trade_id, second.side, second.client_order_id) == ("901", Side.BUY, None)
    assert (third.trade_id, third.side) == ("901", Side.SELL)


async def test_fills_of_an_agent_are_not_loaded_as_none():
    async with trio.open_nursery() as nursery:
        venue = adapter(InfoServer(nursery, userRole={"role": "agent"}, userFillsByTime=[]))
        with pytest.raises(LinkRefused, match="is an agent"):
            await venue.load_fills(0)
        await venue.aclose()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (500, LinkError),
        (422, LinkRefused),
        (None, DecodeError),
        ([FILL, FILL | {"px": "0"}], DecodeError),
        ([FILL | {"time": -1}], DecodeError),
    ],
)
async def test_fills_that_cannot_be_had_say_why(answer, error):
    async with trio.open_nursery() as nursery:
        server = InfoServer(nursery)
        server.answers["userFillsByTime"] = answer
        venue = adapter(server)
        with pytest.raises(error, match="userFillsByTime"):
            await venue.load_fills(0)
        await venue.aclose()


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (429, LinkError),
        (408, LinkError),
        (500, LinkError),
        (503, LinkError),
        (422, LinkRefused),
        (403, LinkRefused),
        (b"", DecodeError),
        (b"<html>", DecodeError),
        (b"null", DecodeError),
        (b"\xff", DecodeError),
        (b"[" * 100_000, DecodeError),
        ({"universe": [{"name": "B TC", "szDecimals": 1}]}, DecodeError),
        ({"universe": [{"name": "BTC", "szDecimals": -1}]}, DecodeError),
        ({"universe": META["universe"] * 2}, DecodeError),
    ],
)
async def test_a_failing_query_says_what_kind_of_failure_it_is(answer, error):
    async with trio.open_nursery() as nursery:
        venue = adapter(InfoServer(nursery, meta=answer))
        with pytest.raises(error, match="meta"):
            await venue.load_instruments()
        await venue.aclose()


async def test_without_credentials_there_is_market_data_only():
    async with trio.open_nursery() as nursery:
        venue = adapter(InfoServer(nursery), key=None, account=None)
        assert venue.venue == "hyperliquid"
        assert (venue.account_id, venue.order_entry) == (None, None)
        with pytest.raises(LinkRefused, match="account is not set"):
            await venue.load_account()
        with pytest.raises(LinkRefused, match="account is not set"):
            await venue.query_order(CLOID)
        with pytest.raises(LinkRefused, match="account is not set"):
            await venue.load_fills(0)
        with pytest.raises(ValueError, match="account"):
            venue.session(("orderUpdates",))


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"account": None}, "needed beside the agent key"),
        ({"account": "0x12"}, "40 hexadecimal digits"),
        ({"api_url": "api.hyperliquid.xyz"}, "api_url: URL"),
    ],
)
async def test_a_malformed_configuration_is_a_config_error(config, problem):
    with pytest.raises(ConfigError, match=problem):
        adapter(None, **config)


async def test_the_network_decides_the_host_unless_a_url_is_given():
    async with trio.open_nursery() as nursery:
        server = InfoServer(nursery, meta=META)
        testnet = adapter(server, network="testnet")
        local = adapter(server, api_url="http://127.0.0.1:18473")
        for venue in (testnet, local):
            await venue.load_instruments()
            await venue.aclose()
        assert server.hosts == [
            ("api.hyperliquid-testnet.xyz", 443, True),
            ("127.0.0.1", 18473, False),
        ]


async def test_which_streams_are_private_and_what_the_others_carry():
    venue = adapter(None)
    assert venue.is_private(("l2Book:BTC", "userFills"))
    assert not venue.is_private(("l2Book:BTC", "trades:BTC"))
    with pytest.raises(ValueError, match="hyperliquid has"):
        venue.is_private(("nope",))
    assert venue.market_slippage_bps == 500
    streams = ("l2Book:BTC", "bbo:BTC", "trades:kPEPE", "activeAssetCtx:BTC", "userFills")
    assert venue.coverage(streams) == (
        ("book", "hyperliquid.BTC"),
        ("quote", "hyperliquid.BTC"),
        ("trade", "hyperliquid.kPEPE"),
        ("mark", "hyperliquid.BTC"),
    )


async def test_real_answers_are_understood(captures: Path):
    def real(name: str) -> Any:
        path = captures / "hyperliquid_rest" / f"{name}.json"
        return msgspec.json.decode(path.read_bytes())["response"]

    async with trio.open_nursery() as nursery:
        server = InfoServer(
            nursery,
            meta=real("meta"),
            clearinghouseState=real("clearinghouseState"),
            frontendOpenOrders=real("openOrders"),
        )
        venue = adapter(server)
        instruments = await venue.load_instruments()
        report = await venue.load_account()
        await venue.aclose()
    names = [each["name"] for each in real("meta")["universe"]]
    assert [each.symbol for each in instruments] == names
    assert "kPEPE" in names
    assert report.account.equity == Decimal("1182.312496")
    assert len(report.positions) == len(real("clearinghouseState")["assetPositions"])
    assert [order.venue_order_id for order in report.open_orders] == [
        str(order["oid"]) for order in real("openOrders")
    ]
    known = {each.id for each in instruments}
    assert {each.instrument_id for each in report.positions} <= known


SPOT_META = {
    "tokens": [
        {"name": "USDC", "index": 0, "szDecimals": 8},
        {"name": "PURR", "index": 1, "szDecimals": 0},
        {"name": "HYPE", "index": 150, "szDecimals": 2},
        {"name": "USDH", "index": 360, "szDecimals": 2},
    ],
    "universe": [
        {"name": "PURR/USDC", "index": 0, "tokens": [1, 0]},
        {"name": "@232", "index": 232, "tokens": [150, 360]},
        {"name": "@107", "index": 107, "tokens": [150, 0]},
    ],
}


async def test_the_spot_wallet_is_balances_and_positions_of_pairs_in_dollars():
    balances = [
        {"coin": "USDC", "token": 0, "hold": "10.5", "total": "100.25", "entryNtl": "0.0"},
        {"coin": "HYPE", "token": 150, "hold": "0.0", "total": "2.001", "entryNtl": "50.0"},
        {"coin": "USDH", "token": 360, "hold": "0.0", "total": "7.0", "entryNtl": "7.0"},
    ]
    answers = {"spotMeta": SPOT_META, "spotClearinghouseState": {"balances": balances}}
    async with trio.open_nursery() as nursery:
        server = InfoServer(
            nursery, meta=META, clearinghouseState=STATE, frontendOpenOrders=[], **answers
        )
        venue = adapter(server)
        await venue.load_instruments()
        report = await venue.load_account()
        await venue.aclose()
    margin, *spot = report.account.balances
    assert (margin.currency, margin.is_spot) == ("USDC", False)
    assert [(each.currency, each.total, each.free, each.is_spot) for each in spot] == [
        ("USDC", Decimal("100.25"), Decimal("89.75"), True),
        ("HYPE", Decimal("2.001"), Decimal("2.001"), True),
        ("USDH", Decimal("7.0"), Decimal("7.0"), True),
    ]
    owned = report.positions[-1]
    assert (owned.instrument_id, owned.quantity) == ("hyperliquid.@107", Decimal("2.001"))
    assert len(report.positions) == 3  # neither dollars nor what has no pair in dollars
