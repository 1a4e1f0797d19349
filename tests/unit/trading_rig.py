"""Accounts and orders without signatures or messages: a rig around `trading.Trading` alone."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from zq_daemon.core.matching import Execution, Incoming, MatchingBook
from zq_daemon.model.market import Side
from zq_daemon.venue.exchange.account import Account
from zq_daemon.venue.exchange.actions import LimitTerms, OrderTerms, TriggerTerms, WireOrder
from zq_daemon.venue.exchange.listing import PAIRS, Perp
from zq_daemon.venue.exchange.trading import Trading

START_MS = 1_700_000_000_000
PERPS = (
    Perp(name="BTC", size_decimals=5, max_leverage=40),
    Perp(name="ISO", size_decimals=2, max_leverage=10, only_isolated=True),
    Perp(name="GONE", size_decimals=2, delisted=True),
    Perp(name="ETH", size_decimals=4, max_leverage=25),
)
ASSETS = {"BTC": 0, "ISO": 1, "GONE": 2, "ETH": 3, "PURR/USDC": 10_000, "@107": 10_107}
OUTSIDE = "0x" + "77" * 20


class HandMarket:
    """Books that only users and `TradingRig.outside` fill; oracles set by hand."""

    pairs = PAIRS
    recorded = ()
    is_lossless = False

    def __init__(self, universe: Sequence[Perp] = PERPS) -> None:
        self.universe = universe
        self.books = {coin: MatchingBook() for coin in ASSETS}
        self.oracles: dict[str, Decimal] = {}

    def matcher(self, coin: str) -> MatchingBook:
        return self.books[coin]

    def oracle(self, coin: str) -> Decimal | None:
        return self.oracles.get(coin)


class Tape:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.orders: list[tuple[int, str]] = []
        self.fills: list[tuple[str, Any]] = []
        self.trades: list[Any] = []
        self.cancels: list[tuple[int, str]] = []
        self.payments: list[tuple[str, Any]] = []
        self.updates: list[tuple[str, Any]] = []
        self.liquidations: list[Any] = []

    def order_changed(self, order: Any) -> None:
        self.orders.append((order.oid, order.status))

    def filled(self, account: Account, fill: Any) -> None:
        self.fills.append((account.address, fill))

    def traded(self, trade: Any) -> None:
        self.trades.append(trade)

    def withdrawn(self, order: Any) -> None:
        self.cancels.append((order.oid, order.status))

    def funded(self, account: Account, payment: Any) -> None:
        self.payments.append((account.address, payment))

    def noted(self, account: Account, update: Any) -> None:
        self.updates.append((account.address, update))

    def liquidated(self, account: Account, liquidation: Any) -> None:
        self.liquidations.append(liquidation)

    def statuses(self, oid: int) -> list[str]:
        """The statuses an order went through."""
        return [status for number, status in self.orders if number == oid]


class TradingRig:
    """Three accounts of 10 000 USDC in either wallet."""

    def __init__(self, perps: Sequence[Perp] = PERPS, **options: Any) -> None:
        self.market = HandMarket(perps)
        self.tape = Tape()
        self.trading = Trading(self.market, self.tape, last_id=0, **options)
        self.trading.now_ms = START_MS
        self.trading.advance(START_MS * 1_000_000)
        self.alice, self.bob, self.carol = (
            self.trading.open_account(f"0x{number:040x}", Decimal(10_000)) for number in (1, 2, 3)
        )
        self._outside_ids = 1 << 48

    def place(self, account: Account, *orders: WireOrder, grouping: str = "na") -> list[Any]:
        return self.trading.place(account, orders, grouping)

    def one(self, account: Account, side: str, price: str, size: str, **terms: Any) -> Any:
        (status,) = self.place(account, order(side, price, size, **terms))
        return status

    def rest(self, account: Account, side: str, price: str, size: str, **terms: Any) -> int:
        status = self.one(account, side, price, size, **terms)
        assert "resting" in status, status
        oid: int = status["resting"]["oid"]
        return oid

    def outside(
        self, side: str, price: str, size: str, coin: str = "BTC", *, take: bool = False
    ) -> None:
        """Liquidity of nobody who has an account here."""
        self._outside_ids += 1
        incoming = Incoming(
            order_id=self._outside_ids,
            owner=OUTSIDE,
            side=Side.BUY if side == "buy" else Side.SELL,
            price=Decimal(price),
            quantity=Decimal(size),
            execution=Execution.IMMEDIATE if take else Execution.REST,
        )
        for event in self.market.books[coin].execute(incoming):
            self.trading.settle(coin, event)

    def clear(self, coin: str = "BTC") -> None:
        """All of the outside's liquidity leaves."""
        for number in range((1 << 48) + 1, self._outside_ids + 1):
            dropped = self.market.books[coin].cancel(number)
            if dropped is not None:
                self.trading.settle(coin, dropped)

    def quote(self, price: int, coin: str = "BTC", size: str = "100") -> None:
        """The outside now quotes a dollar around *price*, and the exchange has seen it."""
        self.clear(coin)
        self.outside("buy", str(price - 1), size, coin)
        self.outside("sell", str(price + 1), size, coin)
        self.trading.react()

    def buy_from_outside(
        self, account: Account, price: int, size: str, coin: str = "BTC", side: str = "buy"
    ) -> None:
        """A position opened at *price* exactly, with the market quoting around it after."""
        self.clear(coin)
        self.outside("sell" if side == "buy" else "buy", str(price), size, coin)
        status = self.one(account, side, str(price), size, coin=coin, tif="Ioc")
        assert status["filled"]["totalSz"] == wired(size), status
        self.quote(price, coin)

    def state(self, oid: int) -> str:
        """The status of an order, live or remembered."""
        for account in self.trading.accounts.values():
            found = self.trading.orders.find(account.address, oid)
            if found is not None:
                return found.status
        raise AssertionError(f"no order {oid}")

    def later(self, ms: int) -> None:
        self.trading.now_ms += ms
        self.trading.advance(self.trading.now_ms * 1_000_000)


def order(
    side: str,
    price: str,
    size: str,
    *,
    coin: str = "BTC",
    tif: str = "Gtc",
    reduce_only: bool = False,
    cloid: int | None = None,
    sl: str | None = None,
    tp: str | None = None,
    is_market: bool = True,
) -> WireOrder:
    """One order as it comes; *sl* or *tp* makes it a stop or a take profit at that price."""
    trigger_px = sl or tp
    if trigger_px is None:
        terms = OrderTerms(limit=LimitTerms(tif))  # type: ignore[arg-type]
    else:
        kind = "sl" if sl else "tp"
        terms = OrderTerms(
            trigger=TriggerTerms(is_market=is_market, trigger_px=trigger_px, tpsl=kind)  # type: ignore[arg-type]
        )
    return WireOrder(
        a=ASSETS[coin],
        b=side == "buy",
        p=price,
        s=size,
        r=reduce_only,
        t=terms,
        c=None if cloid is None else f"0x{cloid:032x}",
    )


def wired(size: str) -> str:
    return size if "." in size else f"{size}.0"
