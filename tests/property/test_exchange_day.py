"""Some minutes at the synthetic market: users, background flow and funding."""

from __future__ import annotations

import random
from collections import Counter
from decimal import Decimal

import pytest

from tests.unit.exchange_rig import COINS, HandClock
from tests.unit.trading_rig import order as hand_order
from zq_daemon.model.market import Side
from zq_daemon.venue.exchange.actions import WireOrder
from zq_daemon.venue.exchange.exchange import Exchange
from zq_daemon.venue.exchange.listing import nearest_price, wire
from zq_daemon.venue.exchange.market import SyntheticMarket

STEPS = 400
NEAR_HOUR_NS = 472_223 * 3_600_000_000_000 - 100_000_000_000
"""Funding is paid after a hundred seconds."""
STEP_MS = 500
ADDRESSES = [f"0x{number:040x}" for number in range(1, 6)]


class Day:
    """An exchange whose users trade at random."""

    def __init__(self, seed: int) -> None:
        self.clock = HandClock(NEAR_HOUR_NS)
        self.rng = random.Random(seed)
        self.exchange = Exchange(self.clock, SyntheticMarket(seed), balance=Decimal(100_000))
        self.trading = self.exchange.trading
        self.accounts = [self.exchange.open_account(address) for address in ADDRESSES]
        self.statuses: Counter[str] = Counter()
        self.exchange.step(self.clock.ns)
        for leverage, asset in ((40, 0), (25, 1), (20, 3), (10, 4)):
            self.trading.set_leverage(self.accounts[0], asset, leverage)

    def run(self, steps: int = STEPS) -> None:
        for _ in range(steps):
            self.clock.advance_ms(STEP_MS)
            self.exchange.step(self.clock.ns)
            for account in self.accounts:
                if self.rng.randrange(4) == 0:
                    self.act(account)
            self.exchange.publisher.flush(self.clock.ns)

    def act(self, account) -> None:
        live = list(account.orders.values())
        if live and self.rng.randrange(3) == 0:
            chosen = self.rng.choice(live)
            asset = self.trading.listing.asset_id(chosen.coin)
            assert self.trading.cancel(account, asset, chosen.oid) == "success"
            return
        wanted = self.order(account)
        for status in self.trading.place(account, [wanted]):
            self.statuses[_kind(status)] += 1

    def order(self, account) -> WireOrder:
        coin = self.rng.choice(COINS)
        asset = self.trading.listing.named(coin)
        assert asset is not None
        side = self.rng.choice((Side.BUY, Side.SELL))
        best = self.exchange.market.matcher(coin).best(side.opposite)
        assert best is not None
        away = Decimal(self.rng.randint(-8, 4)) / 10_000
        price = nearest_price(asset, best * (1 + side.sign * away))
        # The first account trades beyond its means, the others do not.
        dollars = 300_000 if account is self.accounts[0] else self.rng.randint(20, 4_000)
        if "/" in coin or coin.startswith("@"):
            dollars = min(dollars, 2_000)
        size = (dollars / price).quantize(Decimal(1).scaleb(-asset.size_decimals))
        made = hand_order("buy" if side is Side.BUY else "sell", _text(price), _text(size))
        made.a = self.trading.listing.asset_id(coin)
        return made


def _text(number: Decimal) -> str:
    return wire(number).removesuffix(".0")


def _kind(status) -> str:
    return status["error"] if "error" in status else next(iter(status))


@pytest.fixture(scope="module", params=[1, 2])
def day(request) -> Day:
    day = Day(request.param)
    day.run()
    return day


def test_books_balance_after_a_day_with_the_background_flow(day):
    assert day.trading.clearing.imbalances() == {}
    assert day.trading.clearing.house.outside["USDC"]


def test_day_had_a_bit_of_everything(day):
    assert {"filled", "resting", "Insufficient margin to place order."} <= set(day.statuses)
    coins = {fill.coin for account in day.accounts for fill in account.fills}
    assert coins == set(COINS)
    assert any(account.payments for account in day.accounts)
    assert {fill.crossed for account in day.accounts for fill in account.fills} == {True, False}


def test_positions_and_balances_are_the_sums_of_fills(day):
    for account in day.accounts:
        sums: Counter[str] = Counter()
        for fill in account.fills:
            pair = day.trading.clearing.pair(fill.coin)
            change = fill.side.sign * fill.size
            if pair is None:
                sums[fill.coin] += change
                sums["perp"] += fill.closed_pnl - fill.fee
            else:
                sums[pair.base.name] += change
                sums[pair.quote.name] -= change * fill.price
                sums[fill.fee_token] -= fill.fee
        for coin in ("BTC", "ETH", "SOL", "kPEPE"):
            assert account.position_size(coin) == sums[coin]
        for token in ("PURR", "HYPE"):
            assert account.token(token) == sums[token]
        assert account.token("USDC") == 100_000 + sums["USDC"]
        paid = sum(payment.usdc for payment in account.payments)
        if not any(fill.liquidation for fill in account.fills):
            assert account.balance == 100_000 + sums["perp"] + paid


def test_start_positions_of_fills_are_the_ends_of_those_before(day):
    for account in day.accounts:
        ends: dict[str, Decimal] = {}
        for fill in account.fills:
            if day.trading.clearing.pair(fill.coin) is None:
                assert fill.start_position == ends.get(fill.coin, 0)
                ends[fill.coin] = fill.start_position + fill.side.sign * fill.size


def test_one_seed_is_one_day():
    first, second = Day(7), Day(7)
    first.run(80)
    second.run(80)
    assert [list(account.fills) for account in first.accounts] == [
        list(account.fills) for account in second.accounts
    ]
