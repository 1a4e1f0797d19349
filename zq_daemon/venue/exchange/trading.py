"""Orders and accounts of the embedded exchange: checks, placing, cancelling, settling.

Owns accounts, users' orders and the statuses they get. Never does I/O; what users and the public
must hear goes to the `Tape` it is given. Called by `exchange.Exchange` for actions and, as the
market's desk, for what the market did to resting orders.

Not modelled: liquidation, funding payments, borrowing. Margin is cross: the initial margin of all
positions and of the resting orders that could enlarge them must fit into the account's value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol

from attrs import evolve, frozen

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
from zq_daemon.venue.exchange.account import Account, UserFill, UserOrder
from zq_daemon.venue.exchange.actions import WireOrder
from zq_daemon.venue.exchange.messages import PublicTrade
from zq_daemon.venue.exchange.orders import OrderStore
from zq_daemon.venue.exchange.perp import MIN_NOTIONAL, Perp, parse_number, wire
from zq_daemon.venue.exchange.source import MarketSource, mark_price

MAX_OPEN_ORDERS = 1_000
NOBODY = "0x0000000000000000000000000000000000000000"
GONE = "Order was never placed, already canceled, or filled."
_FAR = Decimal("0.8")
_ZERO = Decimal(0)
_EXECUTION = {"Gtc": Execution.REST, "Ioc": Execution.IMMEDIATE, "Alo": Execution.POST_ONLY}
_NO_MATCH = "Order could not immediately match against any resting orders."
_DROP_STATUS = {DropReason.SELF_TRADE: "selfTradeCanceled", DropReason.CANCELED: "canceled"}


class Tape(Protocol):
    """Where it is told what happened."""

    def order_changed(self, order: UserOrder) -> None:
        """An account's order has a new status or less left."""

    def filled(self, account: Account, fill: UserFill) -> None:
        """An account's order traded."""

    def traded(self, trade: PublicTrade) -> None:
        """A trade for everybody."""


class OrderRefused(Exception):
    """One order is refused, with the venue's error text."""


@frozen(kw_only=True)
class _Checked:
    """An order that satisfies the listing's rules."""

    coin: str
    perp: Perp
    side: Side
    price: Decimal
    size: Decimal
    tif: str
    reduce_only: bool
    cloid: str | None


class Trading:
    """All accounts and their orders, on the books of one market.

    Order and trade ids begin behind *last_id*: clients remember those of an exchange before this.
    """

    def __init__(self, market: MarketSource, tape: Tape, *, last_id: int) -> None:
        self._market = market
        self._tape = tape
        self._perps: Sequence[Perp] = tuple(market.universe)
        self._by_name: Mapping[str, Perp] = {perp.name: perp for perp in self._perps}
        self.accounts: dict[str, Account] = {}
        self.orders = OrderStore()
        self._last_id = last_id
        self.now_ms = 0

    def new_id(self) -> int:
        """An id unused so far, for an order or a trade."""
        self._last_id += 1
        return self._last_id

    def mark(self, coin: str) -> Decimal:
        """Mark price: middle of the book, else the oracle, else 0."""
        return mark_price(self._market, coin)

    def max_leverage(self, coin: str) -> int:
        """The highest leverage of *coin*."""
        return self._by_name[coin].max_leverage

    def place(self, account: Account, wanted: WireOrder) -> dict[str, Any] | str:
        """Check and match one order; its status as the wire has it."""
        try:
            checked = self._check(account, wanted)
            self._check_cloid(account, checked.cloid)
            return self._enter(account, checked)
        except OrderRefused as refusal:
            return {"error": str(refusal)}

    def cancel(self, account: Account, asset: int, oid: int | str) -> str | dict[str, Any]:
        """Cancel a live order of the account, by order id or client order id."""
        order = self._live(account, oid)
        if order is None or self._perp(asset) is not self._by_name[order.coin]:
            return {"error": GONE}
        self._withdraw(order, "canceled")
        return "success"

    def modify(self, account: Account, oid: int | str, wanted: WireOrder) -> dict[str, Any] | str:
        """Replace a live order: a new order id, the new terms; the old one is cancelled."""
        old = self._live(account, oid)
        if old is None:
            return {"error": "Cannot modify canceled or filled order"}
        try:
            checked = self._check(account, wanted, instead_of=old)
            if checked.coin != old.coin:
                raise OrderRefused("Cannot modify the asset of an order")
            if checked.cloid != old.cloid:
                self._check_cloid(account, checked.cloid)
            self._withdraw(old, "canceled")
            return self._enter(account, evolve(checked, cloid=checked.cloid or old.cloid))
        except OrderRefused as refusal:
            return {"error": str(refusal)}

    def set_leverage(self, account: Account, asset: int, leverage: int) -> str | None:
        """Choose the leverage of an asset; returns what is wrong."""
        perp = self._perp(asset)
        if perp is None:
            return "Asset is not listed."
        if leverage > perp.max_leverage:
            return f"Invalid leverage value: at most {perp.max_leverage}"
        account.leverage[perp.name] = leverage
        return None

    def settle(self, coin: str, event: MatchEvent) -> None:
        """Book one matching event: fills of users' orders, removals, the public trade."""
        match event:
            case Matched():
                self._settle_trade(coin, event)
            case Dropped():
                order = self.orders.live(event.order_id)
                if order is not None and event.reason in _DROP_STATUS:
                    self._finish(order, _DROP_STATUS[event.reason])
            case Rested():
                order = self.orders.live(event.order_id)
                if order is not None:
                    self._tape.order_changed(order)

    def _check(
        self, account: Account, wanted: WireOrder, instead_of: UserOrder | None = None
    ) -> _Checked:
        perp = self._perp(wanted.a)
        if perp is None:
            raise OrderRefused("Asset is not listed.")
        price, size = parse_number(wanted.p), parse_number(wanted.s)
        if not price or wire_mismatch(wanted.p):
            raise OrderRefused("Order has invalid price.")
        if not size or wire_mismatch(wanted.s) or not perp.size_fits(size):
            raise OrderRefused("Order has invalid size.")
        if not perp.price_fits(price):
            raise OrderRefused("Price must be divisible by tick size.")
        mark = self.mark(perp.name)
        if mark and abs(price - mark) > mark * _FAR:
            raise OrderRefused("Order price too far from oracle")
        side = Side.BUY if wanted.b else Side.SELL
        size = self._reducing(account, perp.name, side, size) if wanted.r else size
        if price * size < MIN_NOTIONAL and not wanted.r:
            raise OrderRefused("Order must have minimum value of $10.")
        if len(account.orders) >= MAX_OPEN_ORDERS:
            raise OrderRefused("Too many open orders.")
        checked = _Checked(
            coin=perp.name,
            perp=perp,
            side=side,
            price=price,
            size=size,
            tif=wanted.t.limit.tif,
            reduce_only=wanted.r,
            cloid=wanted.c.lower() if wanted.c else None,
        )
        if not wanted.r:
            self._check_margin(account, checked, instead_of)
        return checked

    def _check_cloid(self, account: Account, cloid: str | None) -> None:
        if cloid is not None and self.orders.knows_cloid(account.address, cloid):
            raise OrderRefused(f"Duplicate client order id {cloid}.")

    def _reducing(self, account: Account, coin: str, side: Side, size: Decimal) -> Decimal:
        """How much of a reduce-only order can reduce."""
        held = account.position_size(coin)
        if held * side.sign >= 0:
            raise OrderRefused("Reduce only order would increase position.")
        return min(size, abs(held))

    def _check_margin(
        self, account: Account, order: _Checked, instead_of: UserOrder | None
    ) -> None:
        """The account's value must carry everything resting, this order included, as positions."""
        resting = [
            (other.coin, other.side, other.left)
            for other in account.orders.values()
            if other is not instead_of and not other.reduce_only
        ]
        before = self._margin(account, resting)
        after = self._margin(account, [*resting, (order.coin, order.side, order.size)])
        if after > before and after > account.value(self.mark):
            raise OrderRefused("Insufficient margin to place order.")

    def _margin(self, account: Account, resting: Sequence[tuple[str, Side, Decimal]]) -> Decimal:
        """Initial margin if, in each coin, all bids or all asks among *resting* were filled."""
        reach = {coin: (held.size, held.size) for coin, held in account.positions.items()}
        for coin, side, size in resting:
            low, high = reach.get(coin, (_ZERO, _ZERO))
            reach[coin] = (low, high + size) if side is Side.BUY else (low - size, high)
        return sum(
            (
                max(abs(low), abs(high)) * self.mark(coin) / self._leverage(account, coin)
                for coin, (low, high) in reach.items()
            ),
            _ZERO,
        )

    def _leverage(self, account: Account, coin: str) -> int:
        return account.leverage_of(coin, self.max_leverage(coin))

    def _enter(self, account: Account, checked: _Checked) -> dict[str, Any]:
        """Match a checked order; the status the wire has for the outcome."""
        order = UserOrder(
            oid=self.new_id(),
            account=account.address,
            coin=checked.coin,
            side=checked.side,
            price=checked.price,
            size=checked.size,
            left=checked.size,
            tif=checked.tif,
            reduce_only=checked.reduce_only,
            cloid=checked.cloid,
            time_ms=self.now_ms,
            status_ms=self.now_ms,
        )
        self.orders.add(order)
        account.orders[order.oid] = order
        dropped = self._match(order)
        if dropped is None:
            return _filled(order) if order.status == "filled" else _resting(order)
        if dropped.reason is DropReason.WOULD_MATCH:
            self._finish(order, "badAloPxRejected")
            return {"error": self._post_only_text(order)}
        if not order.filled:
            self._finish(order, "iocCancelRejected")
            return {"error": _NO_MATCH}
        self._finish(order, "canceled")
        return _filled(order)

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
        tid = self.new_id()
        taker = self.orders.live(event.taker_id)
        maker = self.orders.live(event.maker_id)
        for order in (taker, maker):
            if order is not None:
                self._settle_fill(order, event, tid, taker=order is taker)
        if event.taker_id and event.maker_id:
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

    def _settle_fill(self, order: UserOrder, event: Matched, tid: int, *, taker: bool) -> None:
        account = self.accounts[order.account]
        fill = account.apply_fill(
            order, event.price, event.quantity, tid=tid, taker=taker, now_ms=self.now_ms
        )
        self._tape.filled(account, fill)
        if not order.left:
            self._finish(order, "filled")
        elif not taker:
            order.status_ms = self.now_ms
            self._tape.order_changed(order)
        self._trim_reduce_only(account, order.coin)

    def _trim_reduce_only(self, account: Account, coin: str) -> None:
        """Resting reduce-only orders never exceed the position they reduce."""
        held = account.position_size(coin)
        for order in [o for o in account.orders.values() if o.reduce_only and o.coin == coin]:
            if held * order.side.sign >= 0:
                self._withdraw(order, "reduceOnlyCanceled")
            elif order.left > abs(held) and self._market.matcher(coin).reduce(order.oid, abs(held)):
                order.left = abs(held)

    def _withdraw(self, order: UserOrder, status: str) -> None:
        if self._market.matcher(order.coin).cancel(order.oid) is not None:
            self._finish(order, status)

    def _finish(self, order: UserOrder, status: str) -> None:
        order.status = status
        order.status_ms = self.now_ms
        self.accounts[order.account].orders.pop(order.oid, None)
        self.orders.close(order)
        self._tape.order_changed(order)

    def _live(self, account: Account, oid: int | str) -> UserOrder | None:
        key = oid.lower() if isinstance(oid, str) else oid
        order = self.orders.find(account.address, key)
        return order if order is not None and order.oid in account.orders else None

    def _perp(self, asset: int) -> Perp | None:
        return self._perps[asset] if asset < len(self._perps) else None

    def _post_only_text(self, order: UserOrder) -> str:
        book = self._market.matcher(order.coin)
        sides = [book.best(side) for side in (Side.BUY, Side.SELL)]
        bbo = "@".join("" if price is None else wire(price) for price in sides)
        return f"Post only order would have immediately matched, bbo was {bbo}."


def wire_mismatch(text: str) -> bool:
    """Whether a number is written with superfluous zeros, which the venue hashes differently."""
    whole, _, decimals = text.partition(".")
    return decimals.endswith("0") or (len(whole) > 1 and whole.startswith("0"))


def _resting(order: UserOrder) -> dict[str, Any]:
    return {"resting": _named(order)}


def _filled(order: UserOrder) -> dict[str, Any]:
    average = (order.notional / order.filled).quantize(Decimal("0.0000000001"))
    shape = {"totalSz": wire(order.filled), "avgPx": wire(average)}
    return {"filled": shape | _named(order)}


def _named(order: UserOrder) -> dict[str, Any]:
    return {"oid": order.oid} | ({} if order.cloid is None else {"cloid": order.cloid})
