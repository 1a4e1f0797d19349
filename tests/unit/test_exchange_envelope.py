"""Who may act, and once: signatures, agents, nonces, expiry, and requests that cannot be parsed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.exchange_rig import START_NS, HandClock, Rig, StillMarket, User, wire_order
from zq_daemon.venue.exchange.envelope import Malformed
from zq_daemon.venue.exchange.exchange import Exchange

NOOP = {"type": "noop"}
OK = {"status": "ok", "response": {"type": "default"}}
NOW_MS = START_NS // 1_000_000
DAY_MS = 86_400_000


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_account_signs_for_itself(rig):
    assert rig.send(rig.alice, NOOP) == OK


def test_unknown_signer_is_named(rig):
    stranger = User(77)
    reply = rig.send(stranger, NOOP)
    text = f"User or API Wallet {stranger.address} does not exist."
    assert reply == {"status": "err", "response": text}


def test_agent_acts_for_the_account_that_approved_it(rig):
    agent = User(50)
    rig.exchange.approve_agent(agent.address.upper().replace("0X", "0x"), rig.alice.address)
    rig.rest(agent, "buy", "50000", "0.01")
    assert len(rig.info("openOrders", user=rig.alice.address)) == 1
    assert rig.info("openOrders", user=agent.address) == []


def test_signature_of_another_network_is_another_signer(rig):
    reply = rig.send(rig.alice, NOOP, network="testnet")
    assert "does not exist" in reply["response"]
    assert Rig(network="testnet").send(rig.alice, NOOP, network="testnet") == OK


def test_either_network_accepts_whom_it_has_met_and_else_takes_the_testnet_for_granted():
    rig = Rig(network="either", strict_accounts=False)
    assert rig.send(User(80), NOOP, network="testnet") == OK
    assert User(80).address in rig.exchange.trading.accounts
    rig.info("openOrders", user=User(81).address)
    assert rig.send(User(81), NOOP, network="mainnet") == OK
    assert User(81).address in rig.exchange.trading.accounts
    assert rig.send(rig.alice, NOOP, network="mainnet") == OK
    known = len(rig.exchange.trading.accounts)
    assert rig.send(User(82), NOOP, network="mainnet") == OK
    assert User(82).address not in rig.exchange.trading.accounts, "nobody had heard of it"
    assert len(rig.exchange.trading.accounts) == known + 1
    rig.exchange.approve_agent(User(83).address, rig.alice.address)
    for network in ("mainnet", "testnet"):
        rig.statuses(User(83), order_actions(), network=network)
    assert len(rig.info("openOrders", user=rig.alice.address)) == 2


def test_a_spent_agent_of_either_network_is_nobody_new():
    rig = Rig(network="either", strict_accounts=False)
    ties, now = rig.exchange.register.ties, NOW_MS
    ties.approve_until(User(83).address, rig.alice.address, "bot", now + 1, now)
    rig.clock.advance_ms(1)
    known = len(rig.exchange.trading.accounts)
    for network in ("mainnet", "testnet"):
        reply = rig.send(User(83), NOOP, network=network)
        assert reply["response"] == f"User or API Wallet {User(83).address} does not exist."
    assert len(rig.exchange.trading.accounts) == known


def order_actions() -> dict:
    orders = [wire_order("buy", "50000", "0.01")]
    return {"type": "order", "orders": orders, "grouping": "na"}


def test_who_was_asked_about_is_remembered_up_to_a_bound(monkeypatch):
    monkeypatch.setattr("zq_daemon.venue.exchange.register.MAX_MET", 2)
    rig = Rig(strict_accounts=False)
    for number in range(80, 83):
        rig.info("userRole", user=User(number).address)
    met = [rig.exchange.register.has_met(User(number).address) for number in range(80, 84)]
    assert met == [False, True, True, False]


def test_changed_action_is_another_signer(rig):
    envelope = rig.envelope(rig.alice, {"type": "order", "orders": [], "grouping": "na"})
    envelope["action"] = {"type": "order", "grouping": "na", "orders": []}
    reply = rig.exchange.action(envelope)
    assert "does not exist" in reply["response"], "the order of the keys is signed"


def test_nonce_is_used_once_even_if_the_action_failed(rig):
    envelope = rig.envelope(
        rig.alice,
        {"type": "updateLeverage", "asset": 99, "isCross": True, "leverage": 5},
        nonce=NOW_MS + 5,
    )
    assert rig.exchange.action(envelope)["response"] == "Asset is not listed."
    reply = rig.exchange.action(envelope)
    assert reply == {
        "status": "err",
        "response": f"Invalid nonce: duplicate nonce {NOW_MS + 5}",
    }
    assert rig.send(rig.bob, NOOP, nonce=NOW_MS + 5) == OK, "nonces are per signer"


def test_nonces_may_come_out_of_order_above_the_lowest_of_the_hundred_highest(rig):
    for nonce in range(NOW_MS + 100, NOW_MS + 200):
        assert rig.send(rig.alice, NOOP, nonce=nonce) == OK
    assert rig.send(rig.alice, NOOP, nonce=NOW_MS + 300) == OK
    assert rig.send(rig.alice, NOOP, nonce=NOW_MS + 250) == OK
    reply = rig.send(rig.alice, NOOP, nonce=NOW_MS + 50)
    assert reply["response"].startswith("Invalid nonce")


@pytest.mark.parametrize("nonce", [NOW_MS - 2 * DAY_MS, NOW_MS + DAY_MS, 0])
def test_nonce_far_from_now_is_refused(rig, nonce):
    assert rig.send(rig.alice, NOOP, nonce=nonce)["response"].startswith("Invalid nonce")


def test_expired_action_is_refused_and_leaves_no_trace(rig):
    action = {"type": "order", "orders": [wire_order("buy", "50000", "0.01")], "grouping": "na"}
    envelope = rig.envelope(rig.alice, action, expires=NOW_MS + 1_000)
    rig.clock.advance_ms(1_000)
    assert "expired" in rig.exchange.action(envelope)["response"]
    assert rig.info("openOrders", user=rig.alice.address) == []
    assert rig.send(rig.alice, action, expires=NOW_MS + 1_001)["status"] == "ok"


def test_vault_is_not_registered(rig):
    vault = "0x" + "ab" * 20
    reply = rig.send(rig.alice, NOOP, vault=vault)
    assert reply == {"status": "err", "response": f"Vault not registered: {vault}"}


def test_any_signer_has_an_account_up_to_a_bound(monkeypatch):
    rig = Rig(strict_accounts=False)
    assert rig.send(User(78), NOOP) == OK
    for stranger in (User(78), User(79)):
        told = rig.info("clearinghouseState", user=stranger.address)
        assert told["marginSummary"]["accountValue"] == "10000.0"
        assert rig.info("userRole", user=stranger.address) == {"role": "user"}
    assert User(79).address not in rig.exchange.trading.accounts, "who only asks opens nothing"
    monkeypatch.setattr("zq_daemon.venue.exchange.register.MAX_ACCOUNTS", 4)
    assert "does not exist" in rig.send(User(80), NOOP)["response"]
    with pytest.raises(ValueError, match="no more than 4 accounts"):
        rig.exchange.open_account(User(81).address)


def test_who_only_trades_starts_with_a_hundred_thousand_dollars():
    exchange = Exchange(HandClock(), StillMarket())
    assert exchange.account(User(1).address).balance == 100_000


def test_addresses_are_checked(rig):
    for bad in ("0x12", "alice", ""):
        with pytest.raises(ValueError, match="is no address"):
            rig.exchange.approve_agent(bad, rig.alice.address)


def order_action(**changes) -> dict:
    return {"type": "order", "orders": [wire_order("buy", "50000", "0.01") | changes]}


@pytest.mark.parametrize(
    "action",
    [
        {"type": "unheardOf"},
        {},
        {"type": "order"},
        {"type": "order", "orders": "all"},
        {"type": "order", "orders": [], "grouping": "none"},
        {"type": "order", "orders": [], "grouping": "na", "builder": {"b": "me", "f": 1}},
        {"type": "evmUserModify", "usingBigBlocks": True},
        order_action(a=-1),
        order_action(a="BTC"),
        order_action(p=50000),
        order_action(t={"limit": {"tif": "Fok"}}),
        order_action(t={"trigger": {}}),
        order_action(t={}),
        order_action(
            t={
                "limit": {"tif": "Gtc"},
                "trigger": {"isMarket": True, "triggerPx": "1", "tpsl": "sl"},
            }
        ),
        order_action(t={"trigger": {"isMarket": True, "triggerPx": "1", "tpsl": "no"}}),
        order_action(c="0x12"),
        {"type": "cancel", "cancels": [{"a": 0}]},
        {"type": "cancelByCloid", "cancels": [{"asset": 0, "cloid": 5}]},
        {"type": "batchModify", "modifies": [{"oid": "x", "order": {}}]},
        {"type": "updateLeverage", "asset": 0, "isCross": True, "leverage": 0},
    ],
)
def test_action_of_another_shape_is_malformed(rig, action):
    with pytest.raises(Malformed):
        rig.send(rig.alice, action)


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": -1},
        {"nonce": 1 << 70},
        {"nonce": "1"},
        {"signature": {"r": "0x1", "s": "0x2", "v": 29}},
        {"signature": {"r": "12", "s": "0x2", "v": 27}},
        {"signature": {"r": "0xzz", "s": "0x2", "v": 27}},
        {"signature": {"r": "0x" + "f" * 65, "s": "0x2", "v": 27}},
        {"signature": {"r": "0x0", "s": "0x0", "v": 27}},
        {"signature": None},
        {"action": []},
        {"action": {"type": "noop", "n": 1 << 80}},
        {"vaultAddress": "0x12"},
        {"expiresAfter": -1},
    ],
)
def test_envelope_of_another_shape_is_malformed(rig, change):
    envelope = rig.envelope(rig.alice, NOOP) | change
    with pytest.raises(Malformed):
        rig.exchange.action(envelope)


def test_deeply_nested_action_is_malformed(rig):
    nested: dict = {}
    for _ in range(100_000):
        nested = {"type": nested}
    with pytest.raises(Malformed):
        rig.exchange.action(rig.envelope(rig.alice, NOOP) | {"action": nested})


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "orders", "a", "p", "t", "oid", "cancels", "user", "coin"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)
SHARED = Rig()
KINDS = ["order", "cancel", "cancelByCloid", "modify", "batchModify", "updateLeverage", "noop"]
QUERIES = ["l2Book", "orderStatus", "userFillsByTime", "openOrders", "clearinghouseState"]


@settings(max_examples=100)
@given(st.sampled_from(KINDS), st.dictionaries(st.text(max_size=6), json_values, max_size=4))
def test_signed_nonsense_never_does_more_than_be_refused(kind, fields):
    try:
        reply = SHARED.send(SHARED.alice, {"type": kind} | fields)
    except Malformed:
        return
    assert reply["status"] in ("ok", "err")


@settings(max_examples=100)
@given(
    json_values
    | st.builds(
        lambda q, f: f | {"type": q},
        st.sampled_from(QUERIES),
        st.dictionaries(st.sampled_from(["user", "oid", "coin", "startTime"]), json_values),
    )
)
def test_unsigned_nonsense_is_malformed_or_answered(request):
    for call in (SHARED.exchange.info, SHARED.exchange.action):
        try:
            answer = call(request)
        except Malformed:
            continue
        assert answer is None or isinstance(answer, dict | list)
