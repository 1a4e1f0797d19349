"""From Hyperliquid's wire values to the daemon's model: numbers, times, sides, status words.

Pure functions; ValueError says what in a message is impossible, quoting it. Nothing here waits,
keeps state or drops an order because of a word it does not know. The session and the adapter call.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal

from zq_daemon.model.account import Account, Balance
from zq_daemon.model.event import FundingPaid
from zq_daemon.model.fill import Fill, Liquidity
from zq_daemon.model.ids import (
    AccountId,
    ClientOrderId,
    InstrumentId,
    TradeId,
    Venue,
    VenueOrderId,
    instrument_id,
)
from zq_daemon.model.instrument import Instrument, InstrumentKind
from zq_daemon.model.market import BookSnapshot, Levels, MarkPrice, Quote, Side, Trade
from zq_daemon.model.order import OrderStatus
from zq_daemon.model.report import AccountReport, OrderReport, PositionReport
from zq_daemon.venue.hyperliquid import wire

VENUE = Venue("hyperliquid")
QUOTE_CURRENCY = "USDC"
PRICE_FIGURES = 5
PERPETUAL_DECIMALS = 6
MIN_NOTIONAL = Decimal(10)

_NS_PER_MS = 1_000_000
_NUMBER = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{1,20})?")
# Numbers above zero of 40 digits at most, a blank behind each; possessive: no backtracking. A dot
# without decimals passes: it is exact, and a group for it would double the time.
_LEVEL_NUMBERS = re.compile(r"(?:(?!0[0.]* )[0-9]{1,20}+\.?+[0-9]{0,20}+ )*+")
_CLOID = re.compile(r"0x[0-9a-f]{32}")
_SIDES = {"A": Side.SELL, "B": Side.BUY}
_STATUS_WORDS = {
    "open": OrderStatus.ACCEPTED,
    "triggered": OrderStatus.ACCEPTED,
    "filled": OrderStatus.FILLED,
}
_STATUS_ENDINGS = (
    ("canceled", OrderStatus.CANCELED),
    ("cancelled", OrderStatus.CANCELED),
    ("cancel", OrderStatus.CANCELED),
    ("rejected", OrderStatus.REJECTED),
    ("expired", OrderStatus.EXPIRED),
)


def number(text: str) -> Decimal:
    """The decimal text as an exact number; ValueError for exponents, NaN, endless digits."""
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not a decimal number")
    return Decimal(text)


def positive(text: str) -> Decimal:
    """`number`, greater than zero."""
    value = number(text)
    if value <= 0:
        raise ValueError(f"{text!r} is not greater than zero")
    return value


def optional_number(text: str | None) -> Decimal | None:
    """`number`, or None as it is."""
    return None if text is None else number(text)


def side(text: str) -> Side:
    """`B` is a buy, `A` (ask) a sell."""
    try:
        return _SIDES[text]
    except KeyError:
        raise ValueError(f"side {text[:40]!r}: expected 'A' or 'B'") from None


def nanoseconds(millis: int) -> int:
    """The venue's times are milliseconds since the Unix epoch."""
    return millis * _NS_PER_MS


def order_status(word: str) -> tuple[OrderStatus, bool]:
    """What a status word means, and whether it is known.

    The set grows (`…Canceled`, `…Rejected`), so words are read by their ending. One that says
    nothing is read as ACCEPTED: an order wrongly believed to live is cancelled or asked about
    again; one wrongly believed to be dead would trade unseen.
    """
    known = _STATUS_WORDS.get(word)
    if known is not None:
        return known, True
    lowered = word.lower()
    for ending, status in _STATUS_ENDINGS:
        if lowered.endswith(ending):
            return status, True
    return OrderStatus.ACCEPTED, False


def client_order_id(text: str | None) -> ClientOrderId | None:
    """A client order id of ours; None for one of another shape, which cannot be ours."""
    if text is None or not _CLOID.fullmatch(text):
        return None
    return ClientOrderId(text)


def trade(wired: wire.Trade, instrument: InstrumentId, ts_recv_ns: int) -> Trade:
    """A public trade."""
    return Trade(
        instrument_id=instrument,
        price=positive(wired.px),
        quantity=positive(wired.sz),
        aggressor=side(wired.side),
        trade_id=TradeId(str(wired.tid)),
        ts_event_ns=wired.time * _NS_PER_MS,
        ts_recv_ns=ts_recv_ns,
    )


def book(wired: wire.Book, instrument: InstrumentId, ts_recv_ns: int) -> BookSnapshot:
    """A book whose levels stay text, every one of which is known to be a number above zero."""
    bids, asks = wired.levels
    bid_prices = [level.px for level in bids]
    bid_sizes = [level.sz for level in bids]
    ask_prices = [level.px for level in asks]
    ask_sizes = [level.sz for level in asks]
    _check_numbers((*bid_prices, *bid_sizes, *ask_prices, *ask_sizes))
    return BookSnapshot(
        instrument_id=instrument,
        bids=Levels(bid_prices, bid_sizes, [level.n for level in bids]),
        asks=Levels(ask_prices, ask_sizes, [level.n for level in asks]),
        ts_event_ns=wired.time * _NS_PER_MS,
        ts_recv_ns=ts_recv_ns,
    )


def quote(wired: wire.Bbo, instrument: InstrumentId, ts_recv_ns: int) -> Quote:
    """Best bid and offer; an empty side has neither price nor quantity."""
    bid, ask = wired.bbo
    return Quote(
        instrument_id=instrument,
        bid_price=positive(bid.px) if bid else None,
        bid_quantity=positive(bid.sz) if bid else None,
        ask_price=positive(ask.px) if ask else None,
        ask_quantity=positive(ask.sz) if ask else None,
        ts_event_ns=wired.time * _NS_PER_MS,
        ts_recv_ns=ts_recv_ns,
    )


def mark(wired: wire.AssetContext, instrument: InstrumentId, ts_recv_ns: int) -> MarkPrice:
    """Mark, oracle, funding; the message has no time of its own, so it is given ours."""
    return MarkPrice(
        instrument_id=instrument,
        mark_price=positive(wired.mark_px),
        oracle_price=optional_number(wired.oracle_px),
        funding_rate=optional_number(wired.funding),
        open_interest=optional_number(wired.open_interest),
        ts_event_ns=ts_recv_ns,
        ts_recv_ns=ts_recv_ns,
    )


def order_report(wired: wire.OrderUpdate, account: AccountId, ts_recv_ns: int) -> OrderReport:
    """The state of one of the account's orders."""
    return _report(
        wired.order, wired.status, nanoseconds(wired.status_timestamp), account, ts_recv_ns
    )


def open_order(wired: wire.Order, account: AccountId, ts_recv_ns: int) -> OrderReport:
    """An element of `openOrders` or `frontendOpenOrders`."""
    return _report(wired, "open", nanoseconds(wired.timestamp), account, ts_recv_ns)


def fill(wired: wire.Fill, account: AccountId, ts_recv_ns: int) -> Fill:
    """One execution; without a client order id the venue's own finds the order."""
    return Fill(
        trade_id=TradeId(str(wired.tid)),
        client_order_id=client_order_id(wired.cloid),
        venue_order_id=VenueOrderId(str(wired.oid)),
        account_id=account,
        instrument_id=instrument_id(VENUE, wired.coin),
        side=side(wired.side),
        price=positive(wired.px),
        quantity=positive(wired.sz),
        fee=number(wired.fee),
        fee_currency=wired.fee_token,
        liquidity=Liquidity.TAKER if wired.crossed else Liquidity.MAKER,
        ts_event_ns=nanoseconds(wired.time),
        ts_recv_ns=ts_recv_ns,
    )


def funding(wired: wire.Funding, account: AccountId) -> FundingPaid:
    """A funding settlement, positive when received."""
    return FundingPaid(
        account_id=account,
        instrument_id=instrument_id(VENUE, wired.coin),
        amount=number(wired.usdc),
        rate=number(wired.funding_rate),
        ts_event_ns=nanoseconds(wired.time),
    )


def instruments(meta: wire.PerpetualMeta) -> tuple[Instrument, ...]:
    """The perpetuals; an asset id is a place in the universe, in which delisted ones count."""
    return tuple(_perpetual(index, asset) for index, asset in enumerate(meta.universe))


def account_report(
    state: wire.ClearinghouseState,
    orders: Sequence[wire.Order],
    account: AccountId,
    ts_recv_ns: int,
) -> AccountReport:
    """Figures, positions and open orders of one moment."""
    ts_event_ns = ts_recv_ns if state.time is None else nanoseconds(state.time)
    equity = number(state.margin_summary.account_value)
    unrealized = sum(
        (number(held.position.unrealized_pnl) for held in state.asset_positions), Decimal(0)
    )
    balance = Balance(
        currency=QUOTE_CURRENCY,
        total=equity - unrealized,
        free=number(state.withdrawable),
    )
    return AccountReport(
        account=Account(
            account_id=account,
            balances=(balance,),
            equity=equity,
            margin_used=number(state.margin_summary.total_margin_used),
            ts_event_ns=ts_event_ns,
            ts_recv_ns=ts_recv_ns,
        ),
        positions=tuple(
            _position(held.position, account, ts_event_ns, ts_recv_ns)
            for held in state.asset_positions
        ),
        open_orders=tuple(open_order(order, account, ts_recv_ns) for order in orders),
    )


def _check_numbers(texts: Sequence[str]) -> None:
    # One match over all of them: 80 numbers one by one would cost as much as the JSON.
    joined = " ".join((*texts, ""))
    if _LEVEL_NUMBERS.fullmatch(joined) and joined.count(" ") == len(texts):
        return
    for text in texts:
        positive(text)


def _report(
    order: wire.Order, word: str, ts_event_ns: int, account: AccountId, ts_recv_ns: int
) -> OrderReport:
    remaining = number(order.sz)
    return OrderReport(
        account_id=account,
        instrument_id=instrument_id(VENUE, order.coin),
        client_order_id=client_order_id(order.cloid),
        venue_order_id=VenueOrderId(str(order.oid)),
        side=side(order.side),
        price=number(order.limit_px),
        quantity=remaining if order.orig_sz is None else number(order.orig_sz),
        remaining=remaining,
        status=order_status(word)[0],
        reason=word,
        ts_event_ns=ts_event_ns,
        ts_recv_ns=ts_recv_ns,
    )


def _perpetual(index: int, asset: wire.Asset) -> Instrument:
    return Instrument(
        id=instrument_id(VENUE, asset.name),
        venue=VENUE,
        symbol=asset.name,
        kind=InstrumentKind.PERPETUAL,
        base_currency=asset.name,
        quote_currency=QUOTE_CURRENCY,
        asset_id=index,
        price_decimals=max(PERPETUAL_DECIMALS - asset.sz_decimals, 0),
        price_figures=PRICE_FIGURES,
        quantity_decimals=asset.sz_decimals,
        min_notional=MIN_NOTIONAL,
        max_leverage=asset.max_leverage,
        delisted=asset.is_delisted,
    )


def _position(
    held: wire.OpenPosition, account: AccountId, ts_event_ns: int, ts_recv_ns: int
) -> PositionReport:
    return PositionReport(
        account_id=account,
        instrument_id=instrument_id(VENUE, held.coin),
        quantity=number(held.szi),
        average_entry_price=optional_number(held.entry_px),
        ts_event_ns=ts_event_ns,
        ts_recv_ns=ts_recv_ns,
    )
