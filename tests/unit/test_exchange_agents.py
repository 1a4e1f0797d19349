"""Agents, sub-accounts and vaults: who signs for whom, from when to when."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.unit.exchange_rig import START_NS, Rig, User
from zq_daemon.venue.exchange import agents as module
from zq_daemon.venue.exchange.user_signed import user_signed_digest

NOOP = {"type": "noop"}
OK = {"status": "ok", "response": {"type": "default"}}
NOW_MS = START_NS // 1_000_000
HALF_A_YEAR_MS = 180 * 86_400_000


@pytest.fixture
def rig() -> Rig:
    return Rig()


def sign(rig: Rig, user: User, action: dict, *, nonce: int | None = None, **changes) -> dict:
    """What the wallet of *user* sends."""
    nonce = rig.next_nonce() if nonce is None else nonce
    action = {"signatureChainId": "0x66eee", "hyperliquidChain": "Mainnet"} | action
    action |= {"time" if action["type"] in ("usdSend", "spotSend") else "nonce": nonce}
    signature = user.key.sign_digest(user_signed_digest(action)).to_wire()
    return {"action": action, "nonce": nonce, "signature": signature} | changes


def approve(rig: Rig, user: User, agent: User, name: str | None = None, **changes) -> dict:
    action = {"type": "approveAgent", "agentAddress": agent.address, "agentName": name}
    return rig.exchange.action(sign(rig, user, action, **changes))


def names(rig: Rig, user: User) -> list[str]:
    return [agent["name"] for agent in rig.info("extraAgents", user=user.address)]


def test_an_approved_agent_signs_for_its_account_and_for_no_other(rig):
    agent = User(50)
    assert "does not exist" in rig.send(agent, NOOP)["response"]
    assert approve(rig, rig.alice, agent) == OK
    rig.rest(agent, "buy", "50000", "0.01")
    assert len(rig.info("openOrders", user=rig.alice.address)) == 1
    assert names(rig, rig.alice) == [], "the main agent has no name"
    assert approve(rig, rig.bob, agent)["response"] == "Extra agent already used."
    for account in (rig.alice, rig.bob):
        assert approve(rig, rig.alice, account)["response"] == "Extra agent already used."
    assert rig.send(rig.bob, NOOP) == OK


@pytest.mark.parametrize("name", ["", "bot"])
def test_an_agent_of_the_same_name_takes_the_place_of_the_last(rig, name):
    first, second = User(50), User(51)
    assert approve(rig, rig.alice, first, name) == OK
    assert approve(rig, rig.alice, second, name) == OK
    assert "does not exist" in rig.send(first, NOOP)["response"]
    assert rig.send(second, NOOP) == OK
    assert approve(rig, rig.alice, first, name)["response"] == "Extra agent already used."
    assert names(rig, rig.alice) == [name][: len(name)]


def test_a_replaced_agent_is_no_account_of_its_own_either():
    rig = Rig(strict_accounts=False)
    first, second = User(50), User(51)
    approve(rig, rig.alice, first)
    approve(rig, rig.alice, second)
    assert "does not exist" in rig.send(first, NOOP)["response"]
    assert rig.info("userRole", user=first.address) == {"role": "missing"}


def test_named_agents_are_bounded_and_sub_accounts_make_room(rig):
    for number in range(3):
        assert approve(rig, rig.alice, User(50 + number), f"bot {number}") == OK
    assert approve(rig, rig.alice, User(60), "more")["response"] == "Too many extra agents."
    rig.send(rig.alice, {"type": "createSubAccount", "name": "spare"})
    assert approve(rig, rig.alice, User(60), "more") == OK
    assert names(rig, rig.alice) == ["bot 0", "bot 1", "bot 2", "more"]


def test_an_agent_is_valid_until_its_name_says(rig):
    agent = User(50)
    assert approve(rig, rig.alice, agent, f"bot valid_until {NOW_MS + 1_000}") == OK
    (shown,) = rig.info("extraAgents", user=rig.alice.address)
    assert shown == {"name": "bot", "address": agent.address, "validUntil": NOW_MS + 1_000}
    rig.clock.advance_ms(999)
    assert rig.send(agent, NOOP) == OK
    rig.clock.advance_ms(1)
    assert "does not exist" in rig.send(agent, NOOP)["response"]
    assert names(rig, rig.alice) == []


def test_an_agent_is_valid_for_half_a_year_at_most(rig):
    assert approve(rig, rig.alice, User(50), "bot") == OK
    (shown,) = rig.info("extraAgents", user=rig.alice.address)
    assert shown["validUntil"] == NOW_MS + HALF_A_YEAR_MS
    for wrong in (NOW_MS, NOW_MS + HALF_A_YEAR_MS + 1, "soon", "9" * 30):
        reply = approve(rig, rig.alice, User(51), f"x valid_until {wrong}")
        assert reply["response"].startswith("Invalid agent name")


def test_spent_agents_are_forgotten_beyond_a_bound(rig, monkeypatch):
    monkeypatch.setattr(module, "MAX_RETIRED", 2)
    for number in range(5):
        assert approve(rig, rig.alice, User(50 + number)) == OK
    assert not rig.exchange.register.ties.is_spent(User(50).address)
    assert rig.exchange.register.ties.is_spent(User(53).address)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"nonce": NOW_MS + 1}, "Invalid nonce"),
        ({"expiresAfter": NOW_MS + 10_000}, "expiresAfter is not supported"),
    ],
)
def test_the_envelope_of_a_wallets_action_must_fit(rig, changes, text):
    action = {"type": "usdSend", "destination": rig.bob.address, "amount": "5"}
    envelope = sign(rig, rig.alice, action, nonce=NOW_MS + 50)
    assert text in rig.exchange.action(envelope | changes)["response"]
    assert rig.exchange.action(envelope) == OK
    assert "duplicate" in rig.exchange.action(envelope)["response"]


def test_a_wallet_signs_for_this_network_and_for_itself_only(rig):
    action = {"type": "usdSend", "destination": rig.bob.address, "amount": "5"}
    other = sign(rig, rig.alice, action | {"hyperliquidChain": "Testnet"})
    assert rig.exchange.action(other)["response"].startswith("Invalid chain")
    stranger = User(77)
    text = f"Must deposit before performing actions. User: {stranger.address}"
    assert rig.exchange.action(sign(rig, stranger, action))["response"] == text
    agent = User(50)
    approve(rig, rig.alice, agent)
    assert rig.exchange.action(sign(rig, agent, action))["response"].startswith("Must deposit")


def sub_account(rig: Rig, name: str = "spare") -> str:
    reply = rig.send(rig.alice, {"type": "createSubAccount", "name": name})
    assert reply["response"]["type"] == "createSubAccount"
    address: str = reply["response"]["data"]
    return address


def value(rig: Rig, address: str) -> str:
    told = rig.info("clearinghouseState", user=address)
    text: str = told["marginSummary"]["accountValue"]
    return text


def test_a_sub_account_is_traded_by_its_master_and_the_masters_agents(rig):
    sub = sub_account(rig)
    assert rig.info("userRole", user=sub) == {
        "role": "subAccount",
        "data": {"master": rig.alice.address},
    }
    assert value(rig, sub) == "0.0"
    move = {"type": "subAccountTransfer", "subAccountUser": sub, "isDeposit": True, "usd": 10**9}
    assert rig.send(rig.alice, move) == OK
    assert (value(rig, sub), value(rig, rig.alice.address)) == ("1000.0", "9000.0")
    agent = User(50)
    approve(rig, rig.alice, agent)
    action = {"type": "order", "orders": [order()], "grouping": "na"}
    for signer in (rig.alice, agent):
        assert rig.send(signer, action, vault=sub)["status"] == "ok"
    assert rig.send(rig.bob, action, vault=sub)["response"] == f"Vault not registered: {sub}"
    assert len(rig.info("openOrders", user=sub)) == 2
    assert rig.info("openOrders", user=rig.alice.address) == []


def order() -> dict:
    return {
        "a": 0,
        "b": True,
        "p": "50000",
        "s": "0.001",
        "r": False,
        "t": {"limit": {"tif": "Gtc"}},
    }


def test_sub_accounts_are_bounded_and_named_once(rig, monkeypatch):
    monkeypatch.setattr(module, "MAX_SUB_ACCOUNTS", 2)
    first = sub_account(rig)
    create = {"type": "createSubAccount", "name": "spare"}
    assert rig.send(rig.alice, create)["response"] == "Sub-account name already used."
    assert "cannot create" in rig.send(rig.alice, create, vault=first)["response"]
    assert sub_account(rig, "other") != first
    third = {"type": "createSubAccount", "name": "third"}
    assert rig.send(rig.alice, third)["response"] == "Too many sub-accounts."
    move = {"type": "subAccountTransfer", "subAccountUser": first, "isDeposit": False, "usd": 1}
    assert rig.send(rig.bob, move)["response"].startswith("Invalid sub-account")
    assert "Insufficient" in rig.send(rig.alice, move)["response"]


def test_a_vault_is_traded_by_its_leader(rig):
    vault = rig.exchange.open_vault(rig.alice.address, "fund", Decimal(500)).address
    assert rig.info("userRole", user=vault) == {"role": "vault"}
    action = {"type": "order", "orders": [order()], "grouping": "na"}
    assert rig.send(rig.alice, action, vault=vault)["status"] == "ok"
    assert rig.send(rig.bob, action, vault=vault)["response"] == f"Vault not registered: {vault}"
    assert len(rig.info("openOrders", user=vault)) == 1


def test_dollars_are_given_only_if_they_are_there(rig):
    give = {"type": "usdSend", "destination": rig.bob.address, "amount": "2500.5"}
    assert rig.exchange.action(sign(rig, rig.alice, give)) == OK
    assert (value(rig, rig.alice.address), value(rig, rig.bob.address)) == ("7499.5", "12500.5")
    for amount, text in (
        ("7500", "Insufficient"),
        ("0", "Invalid amount"),
        ("-5", "Invalid amount"),
    ):
        reply = rig.exchange.action(sign(rig, rig.alice, give | {"amount": amount}))
        assert reply["response"].startswith(text)


@pytest.mark.parametrize(
    ("source", "destination", "changes", "text"),
    [
        ("", "", {}, None),
        ("spot", "spot", {}, None),
        ("spot", "", {"destination": "self"}, None),
        ("", "spot", {"destination": "self"}, None),
        ("spot", "", {}, "This kind of transfer"),
        ("", "another", {}, "This kind of transfer"),
        ("", "", {"token": "PURR"}, "This kind of transfer"),
        ("spot", "spot", {"token": "PURR"}, "Insufficient"),
        ("spot", "spot", {"token": "DOGE"}, "Unknown token"),
        ("", "", {"fromSubAccount": "0x" + "1" * 40}, "Invalid sub-account"),
    ],
)
def test_assets_go_from_wallet_to_wallet(rig, source, destination, changes, text):
    action = {
        "type": "sendAsset",
        "destination": rig.bob.address,
        "sourceDex": source,
        "destinationDex": destination,
        "token": "USDC",
        "amount": "5",
        "fromSubAccount": "",
    } | changes
    if action["destination"] == "self":
        action["destination"] = rig.alice.address
    before = worth(rig, rig.alice) + worth(rig, rig.bob)
    reply = rig.exchange.action(sign(rig, rig.alice, action))
    assert reply == OK if text is None else reply["response"].startswith(text)
    assert worth(rig, rig.alice) + worth(rig, rig.bob) == before
    assert rig.exchange.trading.clearing.imbalances() == {}


def worth(rig: Rig, user: User) -> Decimal:
    """What an account has in both wallets."""
    account = rig.exchange.account(user.address)
    return account.balance + account.token("USDC")


def test_a_withdrawal_is_refused(rig):
    leave = {"type": "withdraw3", "destination": rig.alice.address, "amount": "5"}
    action = {"signatureChainId": "0x66eee", "hyperliquidChain": "Mainnet"} | leave
    action |= {"time": NOW_MS + 9}
    signature = rig.alice.key.sign_digest(user_signed_digest(action)).to_wire()
    reply = rig.exchange.action({"action": action, "nonce": NOW_MS + 9, "signature": signature})
    assert "no other chain" in reply["response"]
