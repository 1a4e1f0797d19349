"""What an account hears of what it did not do itself: funding, liquidation, venue's cancels."""

from __future__ import annotations

from tests.unit.exchange_rig import Rig


def position(rig: Rig) -> None:
    """Bob is long one bitcoin at 50 000, of Alice."""
    rig.rest(rig.alice, "sell", "50000", "1")
    rig.place(rig.bob, "buy", "50000", "1")
    rig.rest(rig.carol, "buy", "49999", "1")
    rig.rest(rig.carol, "sell", "50001", "1")


def test_funding_is_told_at_the_interval_the_exchange_was_made_with():
    rig = Rig(funding_interval_ms=1_000)
    position(rig)
    rig.exchange.step(rig.clock.ns)
    user = rig.bob.address
    listener = rig.listen({"type": "userEvents", "user": user})
    rig.clock.advance_ms(1_000)
    assert rig.exchange.next_due_ns() <= rig.clock.ns
    rig.exchange.step(rig.clock.ns)
    (event,) = listener.heard("user")
    assert event["funding"]["usdc"] == "-0.625"
    assert event["funding"]["szi"] == "1.0"


def test_liquidation_and_the_cancels_it_brings_are_told():
    rig = Rig()
    poor = rig.exchange.account(rig.bob.address)
    rig.exchange.trading.transfer_class(poor, poor.balance - 1_500, to_perp=False)
    leverage = {"type": "updateLeverage", "asset": 0, "isCross": True, "leverage": 40}
    rig.send(rig.bob, leverage)
    position(rig)
    oid = rig.rest(rig.bob, "sell", "60000", "1", reduce_only=True)
    listener = rig.listen({"type": "userEvents", "user": rig.bob.address})
    rig.place(rig.alice, "sell", "49999", "1", tif="Ioc")
    rig.rest(rig.alice, "buy", "49000", "2")
    rig.place(rig.alice, "sell", "49010", "0.001")
    events = listener.heard("user")
    told = [next(iter(event)) for event in events]
    assert set(told) == {"fills", "liquidation", "nonUserCancel"}
    (cancelled,) = [event["nonUserCancel"] for event in events if "nonUserCancel" in event]
    assert cancelled == [{"coin": "BTC", "oid": oid}]
    (liquidation,) = [event["liquidation"] for event in events if "liquidation" in event]
    assert liquidation["liquidated_user"] == rig.bob.address
    (fills,) = [event["fills"] for event in events if "fills" in event]
    assert all(fill["liquidation"]["liquidatedUser"] == rig.bob.address for fill in fills)
    assert rig.info("clearinghouseState", user=rig.bob.address)["assetPositions"] == []
