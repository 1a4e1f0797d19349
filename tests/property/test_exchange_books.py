"""The exchange's books balance whatever several accounts do, and its orders keep their rules."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.trading_rig import ASSETS, TradingRig, order
from zq_daemon.venue.exchange.account import Account

COINS = ("BTC", "ISO", "ETH", "PURR/USDC")
SIZES = {"BTC": "0.5", "ISO": "20", "ETH": "5", "PURR/USDC": "2000"}
UNIT = {"BTC": 100, "ISO": 10, "ETH": 10, "PURR/USDC": 1}
INTERVAL_MS = 60_000

who = st.integers(0, 2)
coins = st.sampled_from(COINS)
sides = st.sampled_from(("buy", "sell"))
prices = st.integers(80, 120)
parts = st.integers(1, 6)
tifs = st.sampled_from(("Gtc", "Gtc", "Ioc", "Alo"))
operations = st.one_of(
    st.tuples(st.just("place"), who, coins, sides, prices, parts, tifs, st.booleans()),
    st.tuples(st.just("place"), who, coins, sides, prices, parts, tifs, st.just(False)),
    st.tuples(st.just("outside"), coins, sides, prices, parts, st.booleans()),
    st.tuples(st.just("outside"), coins, sides, prices, parts, st.booleans()),
    st.tuples(st.just("stop"), who, st.sampled_from(COINS[:3]), sides, prices, prices, parts),
    st.tuples(st.just("group"), who, st.sampled_from(COINS[:3]), sides, prices, parts),
    st.tuples(st.just("bracket"), who, st.sampled_from(COINS[:3]), parts),
    st.tuples(st.just("cancel"), who, st.integers(0, 9)),
    st.tuples(st.just("modify"), who, st.integers(0, 9), prices, parts),
    st.tuples(st.just("take"), who, st.integers(0, 9)),
    st.tuples(st.just("leverage"), who, coins, st.integers(1, 40), st.booleans()),
    st.tuples(st.just("margin"), who, coins, st.integers(-900, 900)),
    st.tuples(st.just("class"), who, st.integers(1, 9_000), st.booleans()),
    st.tuples(st.just("send"), who, who, st.integers(1, 9_000), st.booleans()),
    st.tuples(st.just("later"), st.integers(1, 2 * INTERVAL_MS)),
    st.tuples(st.just("clear"), coins),
    st.tuples(st.just("oracle"), coins, prices),
)


class World:
    """A rig, and what is done to it."""

    def __init__(self) -> None:
        self.rig = TradingRig(funding_interval_ms=INTERVAL_MS)
        self.accounts = (self.rig.alice, self.rig.bob, self.rig.carol)
        for coin in COINS:
            self.rig.outside("buy", str(95 * UNIT[coin]), "9999", coin)
            self.rig.outside("sell", str(105 * UNIT[coin]), "9999", coin)

    def do(self, operation: tuple) -> None:
        name, *arguments = operation
        getattr(self, f"do_{name}")(*arguments)
        self.rig.trading.react()

    def do_place(self, who, coin, side, price, part, tif, reduce_only) -> None:
        self.rig.one(
            self.accounts[who],
            side,
            str(price * UNIT[coin]),
            _size(coin, part),
            coin=coin,
            tif=tif,
            reduce_only=reduce_only,
        )

    def do_outside(self, coin, side, price, part, take) -> None:
        self.rig.outside(side, str(price * UNIT[coin]), _size(coin, part), coin, take=take)

    def do_stop(self, who, coin, side, price, limit, part) -> None:
        self.rig.one(
            self.accounts[who],
            side,
            str(limit * UNIT[coin]),
            _size(coin, part),
            coin=coin,
            sl=str(price * UNIT[coin]),
            is_market=part % 2 == 0,
            reduce_only=part % 3 == 0,
        )

    def do_group(self, who, coin, side, price, part) -> None:
        unit, size, sign = UNIT[coin], _size(coin, part), 1 if side == "buy" else -1
        other = "sell" if side == "buy" else "buy"
        exits = {"coin": coin, "reduce_only": True}
        near, far = ((price + distance * sign) * unit for distance in (5, 9))
        below, deep = ((price - distance * sign) * unit for distance in (5, 9))
        self.rig.place(
            self.accounts[who],
            order(side, str(price * unit), size, coin=coin),
            order(other, str(far), size, tp=str(near), **exits),
            order(other, str(deep), size, sl=str(below), **exits),
            grouping="normalTpsl",
        )

    def do_bracket(self, who, coin, part) -> None:
        account = self.accounts[who]
        held, unit = account.position_size(coin), UNIT[coin]
        sign = 1 if held > 0 else -1
        mark = int(self.rig.trading.mark(coin)) // unit
        self.rig.place(
            account,
            order(
                "sell" if held > 0 else "buy",
                _at(mark - 20 * sign, unit),
                "0",
                coin=coin,
                sl=_at(mark - part * sign, unit),
                reduce_only=True,
            ),
            grouping="positionTpsl",
        )

    def do_cancel(self, who, number) -> None:
        found = _pick(self.accounts[who], number)
        if found is not None:
            self.rig.trading.cancel(self.accounts[who], ASSETS[found.coin], found.oid)

    def do_modify(self, who, number, price, part) -> None:
        found = _pick(self.accounts[who], number)
        if found is not None:
            side = "buy" if found.side.sign > 0 else "sell"
            new = order(
                side,
                str(price * UNIT[found.coin]),
                _size(found.coin, part),
                coin=found.coin,
                reduce_only=found.reduce_only,
                sl=_at(price, UNIT[found.coin]) if found.trigger else None,
            )
            self.rig.trading.modify(self.accounts[who], found.oid, new)

    def do_take(self, who, number) -> None:
        found = _pick(self.accounts[who], number)
        if found is not None:
            self.rig.trading.fill_resting(found)

    def do_leverage(self, who, coin, leverage, is_cross) -> None:
        self.rig.trading.set_leverage(self.accounts[who], ASSETS[coin], leverage, is_cross)

    def do_margin(self, who, coin, amount) -> None:
        account = self.accounts[who]
        self.rig.trading.add_isolated_margin(account, ASSETS[coin], Decimal(amount))

    def do_class(self, who, amount, to_perp) -> None:
        self.rig.trading.transfer_class(self.accounts[who], Decimal(amount), to_perp)

    def do_send(self, giver, taker, amount, spot) -> None:
        first, second = self.accounts[giver], self.accounts[taker]
        if spot:
            self.rig.trading.send_spot(first, second, "USDC", Decimal(amount))
        else:
            self.rig.trading.send_usd(first, second, Decimal(amount))

    def do_later(self, ms) -> None:
        self.rig.later(ms)

    def do_clear(self, coin) -> None:
        self.rig.clear(coin)

    def do_oracle(self, coin, price) -> None:
        self.rig.market.oracles[coin] = Decimal(price * UNIT[coin])


def _size(coin: str, part: int) -> str:
    text = f"{Decimal(SIZES[coin]) * part:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _at(price: int, unit: int) -> str:
    return str(max(price, 1) * unit)


def _pick(account: Account, number: int):
    live = list(account.orders.values())
    return live[number % len(live)] if live else None


def check_money(world: World) -> None:
    assert world.rig.trading.clearing.imbalances() == {}
    for account in world.accounts:
        traded: defaultdict[str, Decimal] = defaultdict(Decimal)
        for fill in account.fills:
            traded[fill.coin] += fill.side.sign * fill.size
        held = {coin: traded[coin] for coin in COINS[:3] if traded[coin]}
        assert held == {coin: position.size for coin, position in account.positions.items()}
        holds = world.rig.trading.spot_holds(account)
        assert all(account.token(token) >= hold >= 0 for token, hold in holds.items())
        assert all(balance.total > 0 for balance in account.spot.values())


def check_orders(world: World) -> None:
    trading = world.rig.trading
    for account in world.accounts:
        for live in account.orders.values():
            book = world.rig.market.books[live.coin]
            assert trading.orders.live(live.oid) is live
            is_outside = live.is_armed or live.is_waiting
            assert book.left(live.oid) == (None if is_outside else live.left)
            held = account.position_size(live.coin)
            if live.reduce_only and not live.is_waiting:
                assert held * live.side.sign < 0
                assert live.is_armed or live.left <= abs(held)
            if live.is_waiting:
                assert live.parent is not None
                assert live.parent.oid in account.orders
                assert live in live.parent.children
            if live.is_armed:
                mark = trading.mark(live.coin)
                assert live.trigger is not None
                assert not mark or not live.trigger.is_reached(live.side, mark)


def check_margin(world: World) -> None:
    for account in world.accounts:
        summary = world.rig.trading.summary(account)
        assert summary.cross_value >= summary.cross_maintenance or not summary.cross_positions
        for each in summary.positions:
            assert each.leverage.is_cross or each.margin_used >= each.maintenance
        isolated = sum(each.margin_used for each in summary.positions if not each.leverage.is_cross)
        assert summary.value == summary.cross_value + isolated


@settings(max_examples=60)
@given(st.lists(operations, min_size=40, max_size=100))
def test_books_balance_and_orders_keep_their_rules(actions):
    world = World()
    for action in actions:
        world.do(action)
        check_money(world)
        check_orders(world)
        check_margin(world)
