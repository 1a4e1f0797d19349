"""Orders of the embedded exchange: placing, cancelling, settling what matching says.

Owns users' orders and the statuses they get. Never does I/O and never books money itself, which
the clearinghouse does; what users and the public must hear goes to the `Tape`. Called by
`exchange.Exchange` for actions and time and, as the market's desk, for what the market did to
resting orders. Triggers, liquidations and funding are looked after by their own modules.

Not modelled: borrowing, margin tiers, open interest caps, partial liquidation of large positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from attrs import evolve

from zq_daemon.core.matching import (
    Dropped,
    DropReason,
    Execution,
    Incoming,
    Matched,
    MatchEvent,
    Rested,
)
from zq_daemon.model.market import Side
from zq_daemon.ports.clock import NS_PER_MS
from zq_daemon.venue.exchange.account import Account, LiquidationMark, UserOrder
from zq_daemon.venue.exchange.actions import WireOrder
from zq_daemon.venue.exchange.checks import Checks, OrderRefused, Terms
from zq_daemon.venue.exchange.clearinghouse import Clearinghouse, Tape
from zq_daemon.venue.exchange.envelope import ActionError
from zq_daemon.venue.exchange.fees import DOCUMENTED, FeeRates
from zq_daemon.venue.exchange.funding import HOUR_MS, Funding
from zq_daemon.venue.exchange.liquidation import Liquidator
from zq_daemon.venue.exchange.listing import Listing, Perp, wire
from zq_daemon.venue.exchange.margin import AccountSummary, account_summary, withdrawable
from zq_daemon.venue.exchange.messages import PublicTrade
from zq_daemon.venue.exchange.orders import OrderStore
from zq_daemon.venue.exchange.source import MarketSource
from zq_daemon.venue.exchange.transfers import Transfers
from zq_daemon.venue.exchange.triggers import Triggers

GONE = "Order was never placed, already canceled, or filled."
_ZERO = Decimal(0)
_EXECUTION = {
    "Gtc": Execution.REST,
    "Ioc": Execution.IMMEDIATE,
    "Alo": Execution.POST_ONLY,
    "FrontendMarket": Execution.IMMEDIATE,
    "LiquidationMarket": Execution.IMMEDIATE,
}
_NO_MATCH = "Order could not immediately match against any resting orders."
_NO_LIQUIDITY = "No liquidity available for market order."
_DROP_STATUS = {DropReason.SELF_TRADE: "selfTradeCanceled", DropReason.CANCELED: "canceled"}
_ROUNDS = 16
"""One reaction sets off the next at most so often before others get their turn."""


class Trading:
    """All accounts and their orders, on the books of one market.

    Order and trade ids begin behind *last_id*: clients remember those of an exchange before this.
    """

    def __init__(
        self,
        market: MarketSource,
        tape: Tape,
        *,
        last_id: int,
        rates: FeeRates = DOCUMENTED,
        funding_interval_ms: int = HOUR_MS,
    ) -> None:
        self.clearing = Clearinghouse(market, tape, last_id=last_id, rates=rates)
        self.orders = OrderStore()
        self.transfers = Transfers(self.clearing)
        self.funding = Funding(self.clearing, interval_ms=funding_interval_ms)
        self._market = market
        self._tape = tape
        self._checks = Checks(self.clearing)
        self._triggers = Triggers(self.clearing, self._checks, self)
        self._liquidator = Liquidator(self.clearing, self)

    @property
    def accounts(self) -> dict[str, Account]:
        """All accounts by address."""
        return self.clearing.accounts

    @property
    def listing(self) -> Listing:
        """All that is listed."""
        return self.clearing.listing

    @property
    def now_ms(self) -> int:
        """Wall time, as last set."""
        return self.clearing.now_ms

    @now_ms.setter
    def now_ms(self, now_ms: int) -> None:
        self.clearing.now_ms = now_ms

    def open_account(self, address: str, balance: Decimal) -> Account:
        """A new account with *balance* USDC in the perpetuals' wallet, and as much in spot."""
        return self.clearing.open_account(address, balance)

    def mark(self, coin: str) -> Decimal:
        """Mark price: middle of the book, else the oracle, else 0."""
        return self.clearing.mark(coin)

    def summary(self, account: Account) -> AccountSummary:
        """The account's worth, margin and positions now."""
        return account_summary(account, self.clearing)

    def withdrawable(self, account: Account) -> Decimal:
        """What may leave the perpetuals' wallet."""
        return withdrawable(account, self.clearing)

    def spot_holds(self, account: Account) -> dict[str, Decimal]:
        """What spot orders hold, by token."""
        return self.clearing.spot_holds(account)

    def advance(self, now_ns: int) -> None:
        """Pay funding when it is due, and react to where the market has moved."""
        self.funding.advance(now_ns // NS_PER_MS)
        self.react()

    def next_due_ns(self) -> int:
        """When `advance` has something to do that no movement of the market causes."""
        return self.funding.next_due_ms() * NS_PER_MS

    def react(self) -> None:
        """Fire triggers and liquidate, until nothing more follows or others need their turn."""
        for _ in range(_ROUNDS):
            fired = self._triggers.fire()
            if not self._liquidator.liquidate() and not fired:
                return

    def place(
        self, account: Account, orders: Sequence[WireOrder], grouping: str = "na"
    ) -> list[dict[str, Any] | str]:
        """Check and match a batch; a status for each order, as the wire has it.

        What the payload alone decides refuses the whole batch: each order gets that error.
        ActionError: the batch is empty.
        """
        if not orders:
            raise ActionError("No orders in the batch.")
        try:
            terms = self._checks.read(orders, grouping)
        except OrderRefused as refusal:
            return [{"error": str(refusal)} for _ in orders]
        if grouping == "na":
            statuses = [self._place(account, each) for each in terms]
        else:
            statuses = self._triggers.place_group(account, terms, grouping)
        self.react()
        return statuses

    def cancel(self, account: Account, asset: int, oid: int | str) -> str | dict[str, Any]:
        """Cancel a live order of the account, by order id or client order id."""
        order = self.live_order(account, oid)
        if order is None or self.listing.find(asset) is not self.listing.named(order.coin):
            return {"error": GONE}
        self.withdraw(order, "canceled")
        self.react()
        return "success"

    def modify(self, account: Account, oid: int | str, wanted: WireOrder) -> dict[str, Any] | str:
        """Replace a live order: a new order id, the new terms; the old one is cancelled."""
        old = self.live_order(account, oid)
        if old is None:
            return {"error": "Cannot modify canceled or filled order"}
        try:
            status = self._replace(account, old, wanted)
        except OrderRefused as refusal:
            return {"error": str(refusal)}
        self.react()
        return status

    def live_order(self, account: Account, oid: int | str) -> UserOrder | None:
        """A live order of the account, by order id or client order id."""
        key = oid.lower() if isinstance(oid, str) else oid
        order = self.orders.find(account.address, key)
        return order if order is not None and order.oid in account.orders else None

    def fill_resting(self, order: UserOrder) -> None:
        """Somebody takes all that rests of *order* at its price, out of turn (a fault)."""
        if self._market.matcher(order.coin).cancel(order.oid) is None:
            return
        event = Matched(
            price=order.price,
            quantity=order.left,
            taker_side=order.side.opposite,
            taker_id=0,
            taker_owner="",
            taker_left=_ZERO,
            maker_id=order.oid,
            maker_owner=order.account,
            maker_left=_ZERO,
        )
        self.settle(order.coin, event)

    def set_leverage(
        self, account: Account, asset: int, leverage: int, is_cross: bool = True
    ) -> str | None:
        """Choose the leverage of an asset; returns what is wrong."""
        return self.transfers.set_leverage(account, asset, leverage, is_cross)

    def add_isolated_margin(self, account: Account, asset: int, amount: Decimal) -> str | None:
        """Put USDC into an isolated position (take out: negative); returns what is wrong."""
        return self.transfers.add_isolated_margin(account, asset, amount)

    def transfer_class(self, account: Account, amount: Decimal, to_perp: bool) -> str | None:
        """Move USDC between the account's two wallets; returns what is wrong."""
        return self.transfers.transfer_class(account, amount, to_perp)

    def send_usd(self, account: Account, destination: Account, amount: Decimal) -> str | None:
        """Give USDC of the perpetuals' wallet to another account; returns what is wrong."""
        return self.transfers.send_usd(account, destination, amount)

    def send_spot(
        self, account: Account, destination: Account, token: str, amount: Decimal
    ) -> str | None:
        """Give a spot token (`NAME:tokenId` or its name); returns what is wrong."""
        return self.transfers.send_spot(account, destination, token, amount)

    def settle(self, coin: str, event: MatchEvent) -> None:
        """Book one matching event: fills of users' orders, removals, the public trade."""
        match event:
            case Matched():
                self._settle_trade(coin, event)
            case Dropped():
                order = self.orders.live(event.order_id)
                if order is not None and event.reason in _DROP_STATUS:
                    self.finish(order, _DROP_STATUS[event.reason])
            case Rested():
                order = self.orders.live(event.order_id)
                if order is not None:
                    self.changed(order, "open")

    def make(self, account: Account, terms: Terms) -> UserOrder:
        """A new live order, neither in the book nor told of yet; ids are used up."""
        order = UserOrder(
            oid=self.clearing.new_id(),
            account=account.address,
            coin=terms.coin,
            side=terms.side,
            price=terms.price,
            size=terms.size,
            left=terms.size,
            tif=terms.tif,
            reduce_only=terms.reduce_only,
            cloid=terms.cloid,
            time_ms=self.now_ms,
            status_ms=self.now_ms,
            trigger=terms.trigger,
            follows_position=terms.follows_position,
        )
        self.orders.add(order)
        account.orders[order.oid] = order
        return order

    def check_cloid(self, account: Account, terms: Iterable[Terms]) -> None:
        """A client order id names one order of the account; raises OrderRefused."""
        named = [each.cloid for each in terms if each.cloid is not None]
        for place, cloid in enumerate(named):
            if self.orders.knows_cloid(account.address, cloid) or cloid in named[:place]:
                raise OrderRefused(f"Duplicate client order id {cloid}.")

    def run(self, order: UserOrder) -> str | None:
        """Match a live order by its time in force; the error text when nothing came of it."""
        dropped = self._match(order)
        if dropped is None:
            return None
        if dropped.reason is DropReason.WOULD_MATCH:
            text = self._post_only_text(order)
            self.finish(order, "badAloPxRejected")
            return text
        if order.filled:
            self.finish(order, "canceled")
            return None
        is_market = order.tif != "Ioc"
        is_empty = self._market.matcher(order.coin).best(order.side.opposite) is None
        if is_market and is_empty:
            self.finish(order, "marketOrderNoLiquidityRejected")
            return _NO_LIQUIDITY
        self.finish(order, "iocCancelRejected")
        return _NO_MATCH

    def changed(self, order: UserOrder, status: str) -> None:
        """A live order has a new status, or less left."""
        order.status = status
        order.status_ms = self.now_ms
        self._tape.order_changed(order)

    def withdraw(self, order: UserOrder, status: str) -> None:
        """Take a live order away, wherever it waits; it ends with *status*."""
        if order.oid not in self._live(order):
            return
        is_outside = order.is_waiting or order.is_armed
        if is_outside or self._market.matcher(order.coin).cancel(order.oid) is not None:
            self.finish(order, status)

    def finish(self, order: UserOrder, status: str) -> None:
        """An order ends; what depends on it follows."""
        self.accounts[order.account].orders.pop(order.oid, None)
        self.orders.close(order)
        self.changed(order, status)
        if status not in ("canceled", "filled") and status.endswith(("Canceled", "Cancel")):
            self._tape.withdrawn(order)
        self._triggers.finished(order)

    def _place(self, account: Account, terms: Terms) -> dict[str, Any] | str:
        try:
            self.check_cloid(account, [terms])
            admitted = self._checks.admit(account, terms)
        except OrderRefused as refusal:
            self.reject(account, terms, refusal)
            return {"error": str(refusal)}
        return self.enter(self.make(account, admitted))

    def reject(self, account: Account, terms: Terms, refusal: OrderRefused) -> None:
        """Remember an order that was refused for more than its form."""
        if refusal.status:
            self.finish(self.make(account, terms), refusal.status)

    def enter(self, order: UserOrder) -> dict[str, Any]:
        """Let a live order in; the status the wire has for the outcome."""
        if order.trigger is not None:
            self._triggers.arm(order)
            return _resting(order)
        error = self.run(order)
        if error is not None:
            return {"error": error}
        return _filled(order) if order.oid not in self._live(order) else _resting(order)

    def _replace(self, account: Account, old: UserOrder, wanted: WireOrder) -> dict[str, Any] | str:
        grouping = "positionTpsl" if old.follows_position else "na"
        (terms,) = self._checks.read([wanted], grouping)
        if terms.coin != old.coin:
            raise OrderRefused("Cannot modify the asset of an order")
        if terms.cloid != old.cloid:
            self.check_cloid(account, [terms])
        terms = evolve(terms, cloid=terms.cloid or old.cloid)
        if old.is_waiting and old.parent is not None:
            return self._triggers.replace_waiting(account, old, terms)
        terms = self._checks.admit(account, terms, instead_of=old)
        siblings, children = old.siblings, old.children
        old.siblings, old.children = [], []
        self.withdraw(old, "canceled")
        new = self.make(account, terms)
        self._triggers.inherit(old, new, siblings, children)
        return self.enter(new)

    def _live(self, order: UserOrder) -> dict[int, UserOrder]:
        return self.accounts[order.account].orders

    def _match(self, order: UserOrder) -> Dropped | None:
        """Run the order through the book; what the book refused of this very order."""
        incoming = Incoming(
            order_id=order.oid,
            owner=order.account,
            side=order.side,
            price=order.price,
            quantity=order.left,
            execution=_EXECUTION[order.tif],
        )
        refused = None
        for event in self._market.matcher(order.coin).execute(incoming):
            if isinstance(event, Dropped) and event.order_id == order.oid:
                refused = event
            else:
                self.settle(order.coin, event)
        return refused

    def _settle_trade(self, coin: str, event: Matched) -> None:
        tid = self.clearing.new_id()
        self.clearing.last_trade[coin] = event.price
        taker = self.orders.live(event.taker_id)
        maker = self.orders.live(event.maker_id)
        marked = [order.liquidation for order in (taker, maker) if order is not None]
        liquidation = next((mark for mark in marked if mark is not None), None)
        sides = ((taker, event.taker_side), (maker, event.taker_side.opposite))
        if taker is not None or maker is not None:
            for order, side in sides:
                if order is None:
                    self.clearing.book_outside(coin, side, event.price, event.quantity)
                else:
                    self._settle_fill(order, event, tid, order is taker, liquidation)
        if event.taker_id and event.maker_id:
            self._tell_trade(coin, event, tid)

    def _tell_trade(self, coin: str, event: Matched, tid: int) -> None:
        owners = (event.taker_owner, event.maker_owner)
        buyer, seller = owners if event.taker_side is Side.BUY else reversed(owners)
        self._tape.traded(
            PublicTrade(
                coin=coin,
                aggressor=event.taker_side,
                price=event.price,
                size=event.quantity,
                time_ms=self.now_ms,
                tid=tid,
                buyer=buyer,
                seller=seller,
            )
        )

    def _settle_fill(
        self,
        order: UserOrder,
        event: Matched,
        tid: int,
        taker: bool,
        liquidation: LiquidationMark | None,
    ) -> None:
        self.clearing.book_fill(
            order, event.price, event.quantity, tid=tid, taker=taker, liquidation=liquidation
        )
        if not order.left:
            self.finish(order, "filled")
        elif not taker:
            self.changed(order, order.status)
        if isinstance(self.listing.named(order.coin), Perp):
            self.trim_reduce_only(self.accounts[order.account], order.coin)

    def trim_reduce_only(self, account: Account, coin: str) -> None:
        """Resting reduce-only orders never exceed the position they reduce; some follow its size.

        An armed one is cut when it fires: the position may have grown by then.
        """
        held = account.position_size(coin)
        for order in [o for o in account.orders.values() if o.reduce_only and o.coin == coin]:
            if order.is_waiting:
                continue
            if held * order.side.sign >= 0:
                self.withdraw(order, "reduceOnlyCanceled")
            elif order.follows_position:
                order.size = order.left = abs(held)
            elif order.left > abs(held) and self._shrink(order, abs(held)):
                order.left = abs(held)

    def _shrink(self, order: UserOrder, size: Decimal) -> bool:
        return self._market.matcher(order.coin).reduce(order.oid, size)

    def _post_only_text(self, order: UserOrder) -> str:
        book = self._market.matcher(order.coin)
        sides = [book.best(side) for side in (Side.BUY, Side.SELL)]
        bbo = "@".join("" if price is None else wire(price) for price in sides)
        return f"Post only order would have immediately matched, bbo was {bbo}."


def _resting(order: UserOrder) -> dict[str, Any]:
    return {"resting": _named(order)}


def _filled(order: UserOrder) -> dict[str, Any]:
    average = (order.notional / order.filled).quantize(Decimal("0.0000000001"))
    shape = {"totalSz": wire(order.filled), "avgPx": wire(average)}
    return {"filled": shape | _named(order)}


def _named(order: UserOrder) -> dict[str, Any]:
    return {"oid": order.oid} | ({} if order.cloid is None else {"cloid": order.cloid})
