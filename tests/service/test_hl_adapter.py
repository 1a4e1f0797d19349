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
from zq_daemon.model.ids import ClientOrderId
from zq_daemon.model.instrument import InstrumentKind, PriceRounding
from zq_daemon.model.market import Side
from zq_daemon.model.order import OrderStatus
from zq_daemon.ports.clock import VirtualClock
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
    "children": [],
}


class InfoServer:
    """A network with `/info` behind every host; *answers* by request type: a body or a status."""

    def __init__(self, nursery: trio.Nursery, **answers: Any) -> None:
        self._nursery = nursery
        self.answers: dict[str, Any] = {"userRole": {"role": "user"}} | answers
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
        status, content = (answer, b"no") if isinstance(answer, int) else (200, answer)
        if not isinstance(content, bytes):
            content = msgspec.json.encode(content)
        length = [("Content-Length", str(len(content)))]
        head = protocol.send(h11.Response(status_code=status, headers=length))
        return head + protocol.send(h11.Data(data=content)) + protocol.send(h11.EndOfMessage())


def adapter(connects: Any, key: AgentKey | None = KEY, **config: Any) -> HyperliquidAdapter:
    settings: dict[str, Any] = {"account": MASTER} | config
    return HyperliquidAdapter(HyperliquidConfig(**settings), connects, VirtualClock(), key)


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
