"""Money that moves without a trade at the embedded exchange."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.unit.trading_rig import TradingRig

D = Decimal
TOO_LITTLE = "Insufficient balance for transfer."


@pytest.fixture
def rig() -> TradingRig:
    return TradingRig()


def test_dollars_move_between_the_wallets_of_an_account(rig):
    assert rig.trading.transfer_class(rig.alice, D(4_000), to_perp=True) is None
    assert (rig.alice.balance, rig.alice.token("USDC")) == (14_000, 6_000)
    assert rig.trading.transfer_class(rig.alice, D("14000"), to_perp=False) is None
    assert (rig.alice.balance, rig.alice.token("USDC")) == (0, 20_000)
    assert [update.delta for update in rig.alice.updates] == [
        {"type": "accountClassTransfer", "usdc": "4000.0", "toPerp": True},
        {"type": "accountClassTransfer", "usdc": "14000.0", "toPerp": False},
    ]
    assert rig.trading.clearing.imbalances() == {}


def test_only_what_is_free_may_leave_a_wallet(rig):
    rig.buy_from_outside(rig.alice, 50_000, "1")
    assert rig.trading.withdrawable(rig.alice) == D(10_000) - D("22.5") - 5_000
    assert rig.trading.transfer_class(rig.alice, D("4977.500001"), to_perp=False) == TOO_LITTLE
    assert rig.trading.transfer_class(rig.alice, D("4977.5"), to_perp=False) is None
    rig.rest(rig.bob, "buy", "20", "499", coin="@107")
    assert rig.trading.transfer_class(rig.bob, D("20.01"), to_perp=True) == TOO_LITTLE
    assert rig.trading.transfer_class(rig.bob, D(20), to_perp=True) is None


def test_dollars_are_sent_to_another_account_and_both_remember(rig):
    assert rig.trading.send_usd(rig.alice, rig.bob, D("10000.5")) == TOO_LITTLE
    assert rig.trading.send_usd(rig.alice, rig.bob, D(2_500)) is None
    assert (rig.alice.balance, rig.bob.balance) == (7_500, 12_500)
    (given,), (got,) = rig.alice.updates, rig.bob.updates
    assert given.delta == got.delta
    assert given.delta["destination"] == rig.bob.address
    assert given.number != got.number
    assert [address for address, _ in rig.tape.updates] == [rig.alice.address, rig.bob.address]


def test_tokens_are_sent_by_name_or_by_name_and_id(rig):
    rig.outside("sell", "0.2", "1000", "PURR/USDC")
    rig.one(rig.alice, "buy", "0.2", "1000", coin="PURR/USDC")
    purr = "PURR:0xc1fb593aeffbeb02f85e0308e9956a90"
    assert rig.trading.send_spot(rig.alice, rig.bob, purr, D("99.5")) is None
    assert rig.bob.token("PURR") == D("99.5")
    cost = (200 * D("99.5") / D("999.3")).quantize(D("0.000001"))
    assert (rig.bob.spot["PURR"].entry, rig.alice.spot["PURR"].entry) == (cost, 200 - cost)
    assert rig.trading.send_spot(rig.alice, rig.bob, "PURR", D("999.3")) == TOO_LITTLE
    assert rig.trading.send_spot(rig.alice, rig.bob, "PURR:0x00", D(1)) == (
        "Unknown token PURR:0x00."
    )
    assert rig.trading.send_spot(rig.alice, rig.alice, "USDC", D(1)) is None
    assert len(rig.alice.updates) == 2
    assert rig.trading.clearing.imbalances() == {}


@pytest.mark.parametrize("amount", ["0", "-1", "0.0000001"])
def test_amounts_are_positive_and_have_six_decimals(rig, amount):
    number = D(amount)
    assert rig.trading.transfer_class(rig.alice, number, to_perp=True) == "Invalid amount."
    assert rig.trading.send_usd(rig.alice, rig.bob, number) == "Invalid amount."
    if number <= 0:
        assert rig.trading.send_spot(rig.alice, rig.bob, "USDC", number) == "Invalid amount."
