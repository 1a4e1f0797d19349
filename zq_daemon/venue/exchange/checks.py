"""What is checked of an order before it is let in, in the venue's order and words.

Owns the rules. Never changes anything. First what the payload alone decides (it refuses a whole
batch): listing, numbers, tick, and triggers of a group. Then, order by order: minimum notional,
margin or spot balance, reduce-only, trigger price, distance from the oracle, number of orders. What
only matching can tell (post-only, immediate) comes last, in `trading`.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from attrs import evolve, frozen

from zq_daemon.model.market import Side
from zq_daemon.venue.exchange.account import Account, Trigger, UserOrder
from zq_daemon.venue.exchange.actions import TriggerTerms, WireOrder
from zq_daemon.venue.exchange.clearinghouse import Clearinghouse
from zq_daemon.venue.exchange.listing import (
    MIN_NOTIONAL,
    Asset,
    SpotPair,
    parse_number,
    wire_mismatch,
)
from zq_daemon.venue.exchange.margin import cross_value, extended, needed_margin

MAX_OPEN_ORDERS = 1_000
BAD_TRIGGER = "Invalid TP/SL price."
NOT_REDUCING = "Reduce only order would increase position."
NO_MARGIN = "Insufficient margin to place order."
_FAR = Decimal("0.8")
_ZERO = Decimal(0)


class OrderRefused(Exception):
    """One order is refused, with the venue's error text; *status* is its word in the history."""

    def __init__(self, text: str, status: str = "") -> None:
        super().__init__(text)
        self.status = status


@frozen(kw_only=True)
class Terms:
    """An order whose numbers are good for what is listed."""

    asset: Asset
    side: Side
    price: Decimal
    size: Decimal
    tif: str
    reduce_only: bool
    cloid: str | None
    trigger: Trigger | None = None
    follows_position: bool = False

    @property
    def coin(self) -> str:
        """What it is about."""
        return self.asset.name


class Checks:
    """The rules, over one clearinghouse."""

    def __init__(self, clearing: Clearinghouse) -> None:
        self._clearing = clearing

    def read(self, orders: Sequence[WireOrder], grouping: str) -> list[Terms]:
        """The terms of all *orders*; OrderRefused (for all of them) by what the payload shows."""
        terms = [self._read(order, grouping) for order in orders]
        if grouping == "na":
            return terms
        children = terms[1:] if grouping == "normalTpsl" else terms
        if grouping == "normalTpsl" and (terms[0].trigger or not 1 <= len(children) <= 2):
            raise OrderRefused("Invalid TP/SL grouping.")
        if any(child.trigger is None or child.coin != terms[0].coin for child in children):
            raise OrderRefused("Invalid TP/SL grouping.")
        if any(not child.reduce_only for child in children):
            raise OrderRefused("TP/SL orders must be reduce only.")
        return terms

    def admit(self, account: Account, terms: Terms, instead_of: UserOrder | None = None) -> Terms:
        """Whether *account* may place it now; a reduce-only order comes back cut to what it can."""
        self._check_notional(terms)
        if isinstance(terms.asset, SpotPair):
            self._check_balance(account, terms.asset, terms, instead_of)
        elif not terms.reduce_only and terms.trigger is None:
            self.check_margin(account, terms.coin, terms.side, terms.size, instead_of)
        if terms.reduce_only:
            terms = self._reducing(account, terms)
        self.check_trigger(terms, self._clearing.mark(terms.coin))
        self._check_distance(terms)
        if len(account.orders) - (instead_of is not None) >= MAX_OPEN_ORDERS:
            raise OrderRefused("Too many open orders.", "tooManyOpenOrdersRejected")
        return terms

    def admit_child(self, account: Account, child: Terms, parent: Terms | UserOrder | None) -> None:
        """Whether a take profit or stop loss fits its *parent*'s price, or else the position.

        One that can trade at once does so at about the mark, whatever the worst price it takes.
        """
        held = account.position_size(child.coin)
        if parent is None and held * child.side.sign >= 0:
            raise OrderRefused(NOT_REDUCING, "reduceOnlyRejected")
        if parent is not None and child.side is parent.side:
            raise OrderRefused(NOT_REDUCING, "reduceOnlyRejected")
        mark = self._clearing.mark(child.coin)
        reference = mark
        if parent is not None:
            better = min if parent.side is Side.BUY else max
            reference = better(parent.price, mark) if mark else parent.price
        self.check_trigger(child, reference)

    def check_margin(
        self,
        account: Account,
        coin: str,
        side: Side,
        size: Decimal,
        instead_of: UserOrder | None = None,
    ) -> None:
        """The wallet must carry everything that may fill, this order included, as positions."""
        reach = self._clearing.reach(account, instead_of)
        before = needed_margin(account, self._clearing, reach)
        reach[coin] = extended(reach.get(coin, (_ZERO, _ZERO)), side, size)
        after = needed_margin(account, self._clearing, reach)
        if after > before and after > cross_value(account, self._clearing):
            raise OrderRefused(NO_MARGIN, "perpMarginRejected")

    def check_trigger(self, terms: Terms, reference: Decimal) -> None:
        """A trigger must lie beyond *reference*: one that has been reached is no trigger."""
        trigger = terms.trigger
        if trigger is not None and reference and trigger.is_reached(terms.side, reference):
            raise OrderRefused(BAD_TRIGGER, "badTriggerPxRejected")

    def _read(self, wanted: WireOrder, grouping: str) -> Terms:
        asset = self._clearing.listing.find(wanted.a)
        if asset is None:
            raise OrderRefused("Asset is not listed.")
        if asset.delisted:
            raise OrderRefused(f"{asset.name} is delisted.")
        follows = grouping == "positionTpsl"
        price, size = parse_number(wanted.p), parse_number(wanted.s)
        if not price or wire_mismatch(wanted.p):
            raise OrderRefused("Order has invalid price.")
        if size is None or not (size or follows) or wire_mismatch(wanted.s):
            raise OrderRefused("Order has invalid size.")
        if not asset.size_fits(size):
            raise OrderRefused("Order has invalid size.")
        if not asset.price_fits(price):
            raise OrderRefused("Price must be divisible by tick size.")
        if isinstance(asset, SpotPair) and (wanted.r or wanted.t.trigger is not None):
            raise OrderRefused("Spot orders are neither reduce only nor TP/SL.")
        return Terms(
            asset=asset,
            side=Side.BUY if wanted.b else Side.SELL,
            price=price,
            size=size,
            tif="Gtc" if wanted.t.limit is None else wanted.t.limit.tif,
            reduce_only=wanted.r,
            cloid=wanted.c.lower() if wanted.c else None,
            trigger=None if wanted.t.trigger is None else _trigger(asset, wanted.t.trigger),
            follows_position=follows,
        )

    def _check_notional(self, terms: Terms) -> None:
        if terms.reduce_only or terms.price * terms.size >= MIN_NOTIONAL:
            return
        if isinstance(terms.asset, SpotPair):
            quote = terms.asset.quote.name
            text = f"Order must have minimum value of 10 {quote}."
            raise OrderRefused(text, "minTradeSpotNtlRejected")
        raise OrderRefused("Order must have minimum value of $10.", "minTradeNtlRejected")

    def _check_balance(
        self, account: Account, pair: SpotPair, terms: Terms, instead_of: UserOrder | None
    ) -> None:
        if terms.side is Side.BUY:
            token, needed = pair.quote.name, terms.price * terms.size
        else:
            token, needed = pair.base.name, terms.size
        if needed > self._clearing.available(account, token, instead_of):
            asset = self._clearing.listing.asset_id(pair.name)
            text = f"Insufficient spot balance asset={asset}"
            raise OrderRefused(text, "insufficientSpotBalanceRejected")

    def _reducing(self, account: Account, terms: Terms) -> Terms:
        """Cut to what it can reduce; a trigger is cut when it fires."""
        held = account.position_size(terms.coin)
        if held * terms.side.sign >= 0:
            raise OrderRefused(NOT_REDUCING, "reduceOnlyRejected")
        if terms.trigger is not None:
            return terms
        return evolve(terms, size=min(terms.size, abs(held)))

    def _check_distance(self, terms: Terms) -> None:
        reference = self._clearing.oracle(terms.coin)
        if terms.trigger is not None or not reference:
            return
        if abs(terms.price - reference) > reference * _FAR:
            raise OrderRefused("Order price too far from oracle", "oracleRejected")


def _trigger(asset: Asset, terms: TriggerTerms) -> Trigger:
    price = parse_number(terms.trigger_px)
    if not price or wire_mismatch(terms.trigger_px) or not asset.price_fits(price):
        raise OrderRefused(BAD_TRIGGER)
    return Trigger(price=price, is_market=terms.is_market, takes_profit=terms.tpsl == "tp")
