"""The info queries, in the venue's shapes."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.unit.exchange_rig import START_NS, Rig, User, wire_order
from zq_daemon.venue.exchange.envelope import Malformed

NOW_MS = START_NS // 1_000_000


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.rest(rig.alice, "sell", "50000", "0.03", cloid=1)
    rig.place(rig.bob, "buy", "50000", "0.01", cloid=2)
    return rig


def test_meta_lists_the_perpetuals_in_the_order_of_their_ids(rig):
    universe = rig.info("meta")["universe"]
    assert [each["name"] for each in universe] == ["BTC", "ETH", "MATIC", "SOL", "kPEPE"]
    assert [each["name"] for each in universe if each.get("isDelisted")] == ["MATIC"]
    assert universe[0] == {"szDecimals": 5, "name": "BTC", "maxLeverage": 40}
    meta, contexts = rig.info("metaAndAssetCtxs")
    assert meta["universe"] == universe
    assert len(contexts) == 5
    assert contexts[0]["markPx"] == "50000.0"
    assert contexts[0]["dayNtlVlm"] == "500.0"


def test_spot_meta_lists_pairs_and_their_tokens(rig):
    meta = rig.info("spotMeta")
    assert [(token["name"], token["index"]) for token in meta["tokens"]] == [
        ("USDC", 0),
        ("PURR", 1),
        ("HYPE", 150),
    ]
    assert meta["universe"] == [
        {"tokens": [1, 0], "name": "PURR/USDC", "index": 0, "isCanonical": True},
        {"tokens": [150, 0], "name": "@107", "index": 107, "isCanonical": False},
    ]
    assert meta["tokens"][2]["szDecimals"] == 2


def test_open_orders_and_their_frontend_form(rig):
    (plain,) = rig.info("openOrders", user=rig.alice.address.upper().replace("0X", "0x"))
    assert plain == {
        "coin": "BTC",
        "side": "A",
        "limitPx": "50000.0",
        "sz": "0.02",
        "oid": plain["oid"],
        "timestamp": NOW_MS,
        "origSz": "0.03",
        "cloid": f"0x{1:032x}",
    }
    (full,) = rig.info("frontendOpenOrders", user=rig.alice.address)
    assert full["tif"] == "Gtc"
    assert full["reduceOnly"] is False
    assert full["orderType"] == "Limit"


def test_order_status_by_either_id(rig):
    by_cloid = rig.info("orderStatus", user=rig.alice.address, oid=f"0x{1:032x}")
    oid = by_cloid["order"]["order"]["oid"]
    assert rig.info("orderStatus", user=rig.alice.address, oid=oid) == by_cloid
    assert by_cloid["order"]["status"] == "open"
    assert rig.info("orderStatus", user=rig.bob.address, oid=oid) == {"status": "unknownOid"}
    assert rig.info("orderStatus", user=rig.bob.address, oid=1) == {"status": "unknownOid"}


def test_fills_by_time_are_oldest_first_within_the_bounds(rig):
    rig.clock.advance_ms(10)
    rig.place(rig.bob, "buy", "50000", "0.01")
    rig.clock.advance_ms(10)
    rig.place(rig.bob, "buy", "50000", "0.01")
    fills = rig.info("userFillsByTime", user=rig.bob.address, startTime=NOW_MS + 10)
    assert [fill["time"] - NOW_MS for fill in fills] == [10, 20]
    fills = rig.info("userFillsByTime", user=rig.bob.address, startTime=0, endTime=NOW_MS + 10)
    assert [fill["time"] - NOW_MS for fill in fills] == [0, 10]
    newest_first = rig.info("userFills", user=rig.bob.address)
    assert [fill["time"] - NOW_MS for fill in newest_first] == [20, 10, 0]


def test_history_has_live_and_closed_orders(rig):
    statuses = [row["status"] for row in rig.info("historicalOrders", user=rig.alice.address)]
    assert statuses == ["open"]
    statuses = [row["status"] for row in rig.info("historicalOrders", user=rig.bob.address)]
    assert statuses == ["filled"]


def test_history_is_cut_where_the_oldest_closed_orders_are(rig, monkeypatch):
    monkeypatch.setattr("zq_daemon.venue.exchange.user_info.MAX_HISTORY", 2)
    closed = [rig.rest(rig.alice, "buy", "49000", "0.01") for _ in range(2)]
    for oid in closed:
        rig.cancel(rig.alice, oid)
    rows = rig.info("historicalOrders", user=rig.alice.address)
    assert [row["status"] for row in rows] == ["open", "canceled"]
    assert rows[1]["order"]["oid"] == closed[1]


def test_book_of_an_unlisted_coin_is_null(rig):
    assert rig.info("l2Book", coin="BTC")["levels"][1][0]["px"] == "50000.0"
    assert rig.info("l2Book", coin="DOGE") is None
    assert rig.info("allMids") == {"BTC": "50000.0"}


def test_candles_trades_and_funding_of_what_is_not_listed_are_none(rig):
    wanted = {"coin": "BTC", "interval": "1h", "startTime": 0}
    (candle,) = rig.info("candleSnapshot", req=wanted)
    assert (candle["c"], candle["v"]) == ("50000.0", "0.01")
    assert rig.info("candleSnapshot", req=wanted | {"coin": "DOGE"}) == []
    (trade,) = rig.info("recentTrades", coin="BTC")
    assert trade["users"] == [rig.bob.address, rig.alice.address]
    assert rig.info("recentTrades", coin="DOGE") is None
    assert rig.info("fundingHistory", coin="DOGE", startTime=0) == []


def test_long_answers_are_cut_to_the_documented_length(rig, monkeypatch):
    monkeypatch.setattr("zq_daemon.venue.exchange.user_info.MAX_ROWS", 2)
    monkeypatch.setattr("zq_daemon.venue.exchange.user_info.MAX_FILLS", 2)
    give = {"type": "updateIsolatedMargin", "asset": 0, "isBuy": True, "ntli": 1}
    assert rig.send(rig.alice, give)["status"] == "err"
    account = rig.exchange.account(rig.alice.address)
    for _ in range(3):
        rig.exchange.trading.transfer_class(account, Decimal(1), to_perp=False)
        rig.place(rig.bob, "buy", "50000", "0.001")
    rows = rig.info("userNonFundingLedgerUpdates", user=rig.alice.address, startTime=0)
    assert len(rows) == 2
    newest = rig.info("userFills", user=rig.bob.address)
    oldest = rig.info("userFillsByTime", user=rig.bob.address, startTime=0)
    assert (len(newest), len(oldest)) == (2, 2)
    assert newest[0]["tid"] > newest[1]["tid"] > oldest[1]["tid"] > oldest[0]["tid"]


def test_unknown_user_is_an_empty_account(rig):
    told = rig.info("clearinghouseState", user=User(99).address)
    assert told["marginSummary"]["accountValue"] == "0.0"
    assert told["assetPositions"] == []
    assert User(99).address not in rig.exchange.trading.accounts


def test_an_entry_takes_of_what_is_free_from_when_it_is_triggered(rig):
    def free() -> list[str]:
        told = rig.info("activeAssetData", user=rig.carol.address, coin="BTC")
        return told["availableToTrade"]

    stop = {"trigger": {"isMarket": False, "triggerPx": "51000", "tpsl": "sl"}}
    entry = wire_order("buy", "50100", "0.1") | {"t": stop}
    action = {"type": "order", "orders": [entry], "grouping": "na"}
    ((_, armed),) = rig.statuses(rig.carol, action)[0].items()
    assert free() == ["10000.0", "10000.0"]
    rig.rest(rig.bob, "sell", "51200", "0.001")
    (ask,) = rig.info("openOrders", user=rig.alice.address)
    assert rig.cancel(rig.alice, ask["oid"]) == "success"
    status = rig.info("orderStatus", user=rig.carol.address, oid=armed["oid"])
    assert status["order"]["order"]["triggerCondition"] == "Triggered"
    assert free() == ["9746.75", "9746.75"], "less 0.1 at the middle of 50100 and 51200, by 20"


def test_roles_agents_limits_and_status(rig):
    agent = User(50)
    rig.exchange.approve_agent(agent.address, rig.alice.address)
    assert rig.info("userRole", user=rig.alice.address) == {"role": "user"}
    assert rig.info("userRole", user=User(99).address) == {"role": "missing"}
    role = rig.info("userRole", user=agent.address)
    assert role == {"role": "agent", "data": {"user": rig.alice.address}}
    (listed,) = rig.info("extraAgents", user=rig.alice.address)
    assert listed["address"] == agent.address
    assert listed["validUntil"] > NOW_MS
    assert rig.info("userRateLimit", user=rig.bob.address)["cumVlm"] == "500.0"
    assert rig.info("exchangeStatus")["time"] == NOW_MS


@pytest.mark.parametrize(
    "request_",
    [
        None,
        [],
        {},
        {"type": 5},
        {"type": "unheardOf"},
        {"type": "openOrders"},
        {"type": "openOrders", "user": "0x12"},
        {"type": "orderStatus", "user": "0x" + "1" * 40},
        {"type": "orderStatus", "user": "0x" + "1" * 40, "oid": True},
        {"type": "userFillsByTime", "user": "0x" + "1" * 40},
        {"type": "l2Book"},
        {"type": "l2Book", "coin": "BTC", "nSigFigs": 1},
        {"type": "meta", "dex": "another"},
        {"type": "candleSnapshot"},
        {"type": "candleSnapshot", "req": {"coin": "BTC", "interval": "7m", "startTime": 0}},
        {"type": "candleSnapshot", "req": {"coin": "BTC", "interval": "1m"}},
        {"type": "candleSnapshot", "req": {"coin": "BTC", "interval": ["1m"], "startTime": 0}},
        {"type": "fundingHistory", "coin": "BTC", "startTime": "now"},
        {"type": "userFunding", "user": "0x" + "1" * 40, "startTime": 0, "endTime": True},
        {"type": "activeAssetData", "user": "0x" + "1" * 40, "coin": "PURR/USDC"},
        {"type": "recentTrades"},
        {"type": "subAccounts", "user": 5},
        {"type": "delegations"},
    ],
)
def test_queries_of_another_shape_are_malformed(rig, request_):
    with pytest.raises(Malformed):
        rig.exchange.info(request_)
