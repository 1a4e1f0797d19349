"""The info queries, in the venue's shapes."""

from __future__ import annotations

import pytest

from tests.unit.exchange_rig import START_NS, Rig, User
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
    assert [each["name"] for each in universe] == ["BTC", "ETH", "SOL", "kPEPE"]
    assert universe[0] == {"szDecimals": 5, "name": "BTC", "maxLeverage": 40}
    meta, contexts = rig.info("metaAndAssetCtxs")
    assert meta["universe"] == universe
    assert len(contexts) == 4
    assert contexts[0]["markPx"] == "50000.0"
    assert contexts[0]["dayNtlVlm"] == "500.0"
    assert rig.info("spotMeta") == {"tokens": [], "universe": []}


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


def test_book_of_an_unlisted_coin_is_null(rig):
    assert rig.info("l2Book", coin="BTC")["levels"][1][0]["px"] == "50000.0"
    assert rig.info("l2Book", coin="DOGE") is None
    assert rig.info("allMids") == {"BTC": "50000.0"}


def test_unknown_user_is_an_empty_account(rig):
    told = rig.info("clearinghouseState", user=User(99).address)
    assert told["marginSummary"]["accountValue"] == "0.0"
    assert told["assetPositions"] == []
    assert User(99).address not in rig.exchange.trading.accounts


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
    ],
)
def test_queries_of_another_shape_are_malformed(rig, request_):
    with pytest.raises(Malformed):
        rig.exchange.info(request_)
