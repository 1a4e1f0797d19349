"""The official SDK on accounts: agents, sub-accounts, margin, money, funding, limits."""

from __future__ import annotations

import time
from decimal import Decimal

import eth_account
import pytest
from hyperliquid.utils.error import ClientError

from tests.unit.exchange_rig import StillMarket
from tests.venue_sdk.sdk import Served, Trader, serving
from zq_daemon.venue.exchange.limits import RateLimits
from zq_daemon.venue.exchange.market import SyntheticMarket

OK = {"status": "ok", "response": {"type": "default"}}
HALF_A_YEAR_MS = 180 * 86_400_000
HOUR_MS = 3_600_000


def value(trader: Trader, address: str | None = None) -> float:
    state = trader.info.user_state(address or trader.address)
    return float(state["marginSummary"]["accountValue"])


def dollars(trader: Trader, address: str | None = None) -> float:
    """The spot balance of USDC."""
    balances = trader.info.spot_user_state(address or trader.address)["balances"]
    return sum(float(each["total"]) for each in balances if each["coin"] == "USDC")


def quote(trader: Trader, coin: str = "BTC", bid: float = 49_990, ask: float = 50_010) -> None:
    trader.rest(coin, "buy", 1.0, bid)
    trader.rest(coin, "sell", 1.0, ask)


def refused(reply) -> str:
    assert reply["status"] == "err", reply
    text: str = reply["response"]
    return text


def test_an_address_never_seen_before_has_its_money_at_once(alice):
    assert value(alice) == 100_000
    assert dollars(alice) == 100_000
    assert alice.info.user_role(alice.address) == {"role": "user"}
    assert alice.info.open_orders(alice.address) == []
    assert alice.info.user_fills(alice.address) == []


def test_strict_accounts_must_be_opened():
    with serving(StillMarket, strict_accounts=True) as served:
        alice = served.trader(1)
        assert value(alice) == 0
        assert alice.info.user_role(alice.address) == {"role": "missing"}
        address = alice.address.lower()
        text = f"User or API Wallet {address} does not exist."
        assert refused(alice.sdk.noop(int(time.time() * 1000))) == text
        text = f"Must deposit before performing actions. User: {address}"
        assert refused(alice.sdk.usd_transfer(5, "0x" + "1" * 40)) == text
        served.call(served.exchange.open_account, alice.address, Decimal(500))
        assert value(alice) == 500


@pytest.mark.parametrize("name", [None, "bot"])
def test_an_approved_agent_trades_for_its_account(served, alice, name):
    reply, key = alice.sdk.approve_agent(name)
    assert reply == OK
    agent = served.trader(key, account_address=alice.address)
    oid = agent.rest("BTC", "buy", 0.01, 40_000)
    assert [order["oid"] for order in alice.info.open_orders(alice.address)] == [oid]
    role = alice.info.user_role(agent.address)
    assert role == {"role": "agent", "data": {"user": alice.address.lower()}}
    named = alice.info.extra_agents(alice.address)
    if name is None:
        assert named == []
    else:
        (shown,) = named
        assert (shown["name"], shown["address"]) == (name, agent.address.lower())
        left_ms = shown["validUntil"] - time.time() * 1000
        assert abs(left_ms - HALF_A_YEAR_MS) < 60_000
    replaced, _ = alice.sdk.approve_agent(name)
    assert replaced == OK
    text = f"User or API Wallet {agent.address.lower()} does not exist."
    assert refused(agent.sdk.cancel("BTC", oid)) == text


def test_an_agent_closes_the_position_of_its_account(served, alice, bob):
    quote(bob)
    _, key = alice.sdk.approve_agent("bot")
    agent = served.trader(key, account_address=alice.address)
    agent.sdk.market_open("BTC", True, 0.1)
    assert len(alice.info.user_state(alice.address)["assetPositions"]) == 1
    agent.sdk.market_close("BTC")
    assert alice.info.user_state(alice.address)["assetPositions"] == []


def test_a_sub_account_is_funded_and_traded_by_its_master(served, alice, bob):
    reply = alice.sdk.create_sub_account("spare")
    sub = reply["response"]["data"]
    assert reply["response"]["type"] == "createSubAccount"
    role = {"role": "subAccount", "data": {"master": alice.address.lower()}}
    assert alice.info.user_role(sub) == role
    assert alice.sdk.sub_account_transfer(sub, True, 2_500_000_000) == OK
    assert alice.sdk.sub_account_spot_transfer(sub, True, "USDC", 70.5) == OK
    assert (value(alice), value(alice, sub)) == (97_500, 2_500)
    assert (dollars(alice), dollars(alice, sub)) == (99_929.5, 70.5)
    (shown,) = alice.info.query_sub_accounts(alice.address)
    assert (shown["name"], shown["subAccountUser"]) == ("spare", sub)
    assert shown["clearinghouseState"]["marginSummary"]["accountValue"] == "2500.0"
    assert bob.info.query_sub_accounts(bob.address) is None
    vaulted = served.trader(1, vault_address=sub)
    oid = vaulted.rest("BTC", "buy", 0.01, 40_000)
    assert [order["oid"] for order in alice.info.open_orders(sub)] == [oid]
    assert vaulted.sdk.usd_class_transfer(500, False) == OK
    assert (value(alice, sub), dollars(alice, sub)) == (2_000, 570.5)
    assert alice.sdk.sub_account_transfer(sub, False, 500_000_000) == OK
    assert value(alice) == 98_000
    stranger = served.trader(2, vault_address=sub)
    assert refused(stranger.sdk.cancel("BTC", oid)) == f"Vault not registered: {sub}"


def test_money_is_given_and_its_ways_are_in_the_ledger(served, alice, bob):
    ear = served.listen(bob, {"type": "userNonFundingLedgerUpdates", "user": bob.address})
    opening = ear.next("userNonFundingLedgerUpdates")
    assert (opening["isSnapshot"], opening["nonFundingLedgerUpdates"]) == (True, [])
    assert alice.sdk.usd_transfer(1_234.5, bob.address) == OK
    assert (value(alice), value(bob)) == (98_765.5, 101_234.5)
    token = "USDC:0x6d1e7cde53ba9467b783cb7c530ce054"
    assert alice.sdk.spot_transfer(10, bob.address, token) == OK
    assert alice.sdk.usd_class_transfer(90, True) == OK
    assert (value(alice), dollars(alice), dollars(bob)) == (98_855.5, 99_900, 100_010)
    assert alice.sdk.send_asset(bob.address, "", "", "USDC", 0.5) == OK
    assert alice.sdk.send_asset(alice.address, "spot", "", "USDC", 5) == OK
    assert (value(alice), dollars(alice)) == (98_860, 99_895)
    (update,) = ear.next("userNonFundingLedgerUpdates")["nonFundingLedgerUpdates"]
    assert update["delta"]["type"] == "internalTransfer"
    assert float(update["delta"]["usdc"]) == 1_234.5
    kinds = [row["delta"]["type"] for row in ledger(alice)]
    assert kinds == [
        "internalTransfer",
        "spotTransfer",
        "accountClassTransfer",
        "internalTransfer",
        "accountClassTransfer",
    ]
    assert [row["delta"]["type"] for row in ledger(bob)] == [
        "internalTransfer",
        "spotTransfer",
        "internalTransfer",
    ]


def ledger(trader: Trader) -> list:
    rows: list = trader.info.user_non_funding_ledger_updates(trader.address, 0)
    return rows


def test_money_that_is_not_there_or_needed_is_not_given(alice, bob):
    assert "Insufficient" in refused(alice.sdk.usd_transfer(100_001, bob.address))
    assert "Insufficient" in refused(alice.sdk.usd_class_transfer(100_001, True))
    assert "Invalid amount" in refused(alice.sdk.usd_transfer(-5, bob.address))
    assert "not supported" in refused(alice.sdk.withdraw_from_bridge(5, bob.address))
    quote(bob)
    alice.sdk.update_leverage(2, "BTC")
    alice.sdk.market_open("BTC", True, 1.0)
    withdrawable = float(alice.info.user_state(alice.address)["withdrawable"])
    assert 70_000 < withdrawable < 76_000
    assert "Insufficient" in refused(alice.sdk.usd_transfer(withdrawable + 1, bob.address))


def test_the_chosen_leverage_is_that_of_the_position(served, alice, bob):
    quote(bob)
    ear = served.listen(alice, {"type": "activeAssetData", "user": alice.address, "coin": "BTC"})
    opening = ear.next("activeAssetData")
    assert opening["leverage"] == {"type": "cross", "value": 20}
    assert float(opening["maxTradeSzs"][0]) == 40
    assert alice.sdk.update_leverage(4, "BTC") == OK
    assert "at most 40" in refused(alice.sdk.update_leverage(41, "BTC"))
    chosen = ear.next("activeAssetData", lambda data: data["leverage"]["value"] == 4)
    assert [float(size) for size in chosen["maxTradeSzs"]] == [8, 8]
    alice.sdk.market_open("BTC", True, 0.8)
    (held,) = alice.info.user_state(alice.address)["assetPositions"]
    assert held["position"]["leverage"] == {"type": "cross", "value": 4}
    assert float(held["position"]["marginUsed"]) == 10_000
    changed = ear.next("activeAssetData", lambda data: data["availableToTrade"][0] != "100000.0")
    buy, sell = (float(amount) for amount in changed["availableToTrade"])
    assert sell - buy == pytest.approx(20_000)


def test_an_isolated_position_has_margin_of_its_own(alice, bob):
    quote(bob)
    assert alice.sdk.update_leverage(10, "BTC", is_cross=False) == OK
    alice.sdk.market_open("BTC", True, 0.1)
    assert alice.sdk.update_isolated_margin(250, "BTC") == OK
    (held,) = alice.info.user_state(alice.address)["assetPositions"]
    position = held["position"]
    assert (position["leverage"]["type"], position["leverage"]["value"]) == ("isolated", 10)
    assert float(position["marginUsed"]) == pytest.approx(500.1 + 250 - 1, abs=0.01)
    assert float(position["liquidationPx"]) > 0
    assert "leverage type" in refused(alice.sdk.update_leverage(10, "BTC", is_cross=True))


def test_funding_is_paid_and_told(served, alice, bob):
    quote(bob)
    served.pass_time(HOUR_MS - now_ms() % HOUR_MS + HOUR_MS // 2)  # no hour ends but by `pass_time`
    alice.sdk.market_open("BTC", True, 0.1)
    ear = served.listen(alice, *[{"type": each, "user": alice.address} for each in FUNDED])
    assert ear.next("userFundings")["isSnapshot"]
    served.pass_time(HOUR_MS)
    event = ear.next("userEvents", lambda data: "funding" in data)["funding"]
    assert ear.next("userFundings")["fundings"] == [event]
    assert (event["coin"], event["szi"]) == ("BTC", "0.1")
    (row,) = alice.info.user_funding_history(alice.address, 0)
    assert row["delta"] == {"type": "funding"} | {k: v for k, v in event.items() if k != "time"}
    rates = alice.info.funding_history("BTC", 0)
    assert [rate["fundingRate"] for rate in rates[-1:]] == [event["fundingRate"]]
    (held,) = alice.info.user_state(alice.address)["assetPositions"]
    paid = float(held["position"]["cumFunding"]["allTime"])
    assert paid == -float(event["usdc"])


FUNDED = ("userFundings", "userEvents")


def test_a_losing_position_is_liquidated_and_its_owner_told(served, alice, bob):
    quote(bob)
    alice.sdk.update_leverage(40, "BTC", is_cross=False)
    alice.sdk.market_open("BTC", True, 0.5)
    ear = served.listen(alice, {"type": "userEvents", "user": alice.address})
    for order in bob.info.open_orders(bob.address):
        bob.sdk.cancel("BTC", order["oid"])
    bob.rest("BTC", "buy", 5.0, 48_900)
    bob.rest("BTC", "sell", 5.0, 48_910)
    told = ear.next("userEvents", lambda data: "liquidation" in data)["liquidation"]
    assert told["liquidated_user"] == alice.address.lower()
    assert alice.info.user_state(alice.address)["assetPositions"] == []
    (last,) = [fill for fill in alice.info.user_fills(alice.address) if "liquidation" in fill]
    assert last["liquidation"]["liquidatedUser"] == alice.address.lower()


def test_fees_are_those_that_fills_were_charged(alice, bob):
    quote(bob)
    alice.sdk.market_open("BTC", True, 0.1)
    for trader, rate, side in (
        (alice, "userCrossRate", "userCross"),
        (bob, "userAddRate", "userAdd"),
    ):
        fees = trader.info.user_fees(trader.address)
        (fill,) = trader.info.user_fills(trader.address)
        assert float(fill["fee"]) == pytest.approx(5_001 * float(fees[rate]))
        assert float(fees["dailyUserVlm"][-1][side]) == 5_001
    assert fees["feeSchedule"]["cross"] == "0.00045"


def test_requests_are_counted_and_trading_earns_more(alice, bob):
    quote(bob)
    before = alice.info.user_rate_limit(alice.address)
    assert before == {"cumVlm": "0.0", "nRequestsUsed": 0, "nRequestsCap": 10_000}
    alice.sdk.market_open("BTC", True, 0.1)
    after = alice.info.user_rate_limit(alice.address)
    assert after == {"cumVlm": "5001.0", "nRequestsUsed": 1, "nRequestsCap": 15_001}


def test_too_many_requests_are_the_clients_error():
    limits = RateLimits(weight_per_minute=42)
    with serving(StillMarket, rate_limits=limits) as served:
        alice = served.trader(1)  # asks for both listings: weight 40
        assert alice.info.all_mids() == {}
        with pytest.raises(ClientError) as caught:
            for _ in range(100):  # a little flows back meanwhile
                alice.info.all_mids()
        assert (caught.value.status_code, caught.value.error_code) == (429, None)


def test_a_spent_budget_leaves_one_request_in_ten_seconds():
    with serving(StillMarket, rate_limits=RateLimits(requests=2)) as served:
        alice = served.trader(1)
        oid = alice.rest("BTC", "buy", 0.01, 40_000)
        alice.rest("BTC", "buy", 0.01, 40_001)
        assert "Too many cumulative requests" in refused(alice.sdk.noop(now_ms()))
        assert alice.statuses(alice.sdk.cancel("BTC", oid)) == ["success"]
        served.pass_time(10_000)
        assert alice.sdk.noop(now_ms()) == OK


def now_ms() -> int:
    return int(time.time() * 1000)


def test_a_users_page_shows_orders_and_margin(served, alice):
    oid = alice.rest("BTC", "buy", 0.01, 40_000)
    ear = served.listen(alice, {"type": "webData2", "user": alice.address})
    page = ear.next("webData2")
    assert [order["oid"] for order in page["openOrders"]] == [oid]
    assert page["clearinghouseState"]["marginSummary"]["accountValue"] == "100000.0"
    assert page["meta"]["universe"][0]["name"] == "BTC"


def test_spot_is_bought_and_sold_with_spot_balances():
    with serving(lambda: SyntheticMarket(7)) as served:
        alice = served.trader(1)
        (status,) = alice.statuses(alice.sdk.market_open("HYPE/USDC", True, 5.0))
        bought = status["filled"]
        assert float(bought["totalSz"]) == 5
        (fill,) = spot_fills(alice)[-1:]
        assert (fill["coin"], fill["dir"], fill["feeToken"]) == ("@107", "Buy", "HYPE")
        balances = {each["coin"]: each for each in spot_balances(alice)}
        fees = sum(float(each["fee"]) for each in spot_fills(alice))
        assert float(balances["HYPE"]["total"]) == pytest.approx(5 - fees)
        spent = 5 * float(bought["avgPx"])
        assert float(balances["USDC"]["total"]) == pytest.approx(100_000 - spent)
        price = alice.sdk._slippage_price("HYPE/USDC", False, 0.05)
        (status,) = alice.statuses(
            alice.sdk.order("HYPE/USDC", False, 4.0, price, {"limit": {"tif": "Ioc"}})
        )
        assert float(status["filled"]["totalSz"]) == 4
        assert spot_fills(alice)[-1]["feeToken"] == "USDC"
        price = alice.sdk._slippage_price("HYPE/USDC", False, -0.5)
        oid = alice.rest("HYPE/USDC", "sell", 0.9, price)
        (held,) = [each for each in spot_balances(alice) if each["coin"] == "HYPE"]
        assert float(held["hold"]) == 0.9
        assert alice.statuses(alice.sdk.cancel("HYPE/USDC", oid)) == ["success"]
        assert value(alice) == 100_000, "perpetuals are another wallet"


def spot_balances(trader: Trader) -> list:
    balances: list = trader.info.spot_user_state(trader.address)["balances"]
    return balances


def spot_fills(trader: Trader) -> list:
    fills: list = trader.info.user_fills_by_time(trader.address, 0)
    return fills


def test_what_nobody_has_here_is_answered_by_nothing(alice):
    info, address = alice.info, alice.address
    for query in (
        info.user_staking_delegations,
        info.user_staking_rewards,
        info.delegator_history,
        info.user_twap_slice_fills,
        info.user_vault_equities,
    ):
        assert query(address) == []
    assert info.query_user_to_multi_sig_signers(address) is None
    assert info.user_staking_summary(address)["delegated"] == "0.0"
    periods = dict(info.portfolio(address))
    assert periods["day"]["accountValueHistory"][-1][1] == "100000.0"


def test_a_vault_is_traded_by_its_leader(served: Served, alice):
    ward = served.call(served.exchange.open_vault, alice.address, "fund", Decimal(1_000))
    assert alice.info.user_role(ward.address) == {"role": "vault"}
    leader = served.trader(1, vault_address=ward.address)
    oid = leader.rest("BTC", "buy", 0.01, 40_000)
    assert [order["oid"] for order in alice.info.open_orders(ward.address)] == [oid]


def test_a_signature_for_mainnet_is_somebody_elses(alice):
    """What the SDK signs for any other URL than mainnet's is for the testnet."""
    stranger = eth_account.Account.from_key("0x" + "9" * 64).address
    assert alice.info.user_role(stranger) == {"role": "user"}
    alice.rest("BTC", "buy", 0.01, 40_000)
    assert alice.info.open_orders(stranger) == []
