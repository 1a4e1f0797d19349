"""From Hyperliquid's wire values to the daemon's model: numbers, times, sides, status words.

Pure functions; ValueError says what in a message is impossible, quoting it. Nothing here waits,
keeps state or drops an order because of a word it does not know. The session and the adapter call.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from email.utils import parsedate_to_datetime

from zq_daemon.model.account import Account, Balance
from zq_daemon.model.bar import Candle
from zq_daemon.model.event import AccountLiquidated, FundingPaid
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
from zq_daemon.model.market import BookSnapshot, Levels, MarkPrice, MidPrice, Quote, Side, Trade
from zq_daemon.model.order import OrderStatus, TimeInForce
from zq_daemon.model.report import (
    AccountReport,
    CancelReport,
    OrderReport,
    PositionReport,
)
from zq_daemon.venue.hyperliquid import wire
from zq_daemon.venue.interface import ClockSkew

VENUE = Venue("hyperliquid")
QUOTE_CURRENCY = "USDC"
_DETAIL_CHARS = 300

_NS_PER_MS = 1_000_000
_NS_PER_S = 1_000_000_000
_NUMBER = re.compile(r"-?[0-9]{1,20}(?:\.[0-9]{1,20})?")
# Numbers above zero of 40 digits at most, a blank behind each; possessive: no backtracking. A dot
# without decimals passes: it is exact, and a group for it would double the time.
_LEVEL_NUMBERS = re.compile(r"(?:(?!0[0.]* )[0-9]{1,20}+\.?+[0-9]{0,20}+ )*+")
_CLOID = re.compile(r"0x[0-9a-f]{32}")
_ORDER_NUMBER = re.compile(r"[1-9][0-9]{0,18}")
_SIDES = {"A": Side.SELL, "B": Side.BUY}
_TIMES_IN_FORCE = {
    "Gtc": TimeInForce.GTC,
    "Alo": TimeInForce.GTC,
    "Ioc": TimeInForce.IOC,
    "FrontendMarket": TimeInForce.IOC,
    "LiquidationMarket": TimeInForce.IOC,
}
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


def order_number(venue_order_id: VenueOrderId | None) -> int | None:
    """The number that *venue_order_id* is at this venue; None for anything else."""
    if venue_order_id is None or not _ORDER_NUMBER.fullmatch(venue_order_id):
        return None
    return int(venue_order_id)


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


def mid(text: str, instrument: InstrumentId, ts_recv_ns: int) -> MidPrice:
    """The middle price of `allMids`; the message has no time of its own, so it is given ours."""
    price = positive(text)
    return MidPrice(
        instrument_id=instrument, price=price, ts_event_ns=ts_recv_ns, ts_recv_ns=ts_recv_ns
    )


def candle(
    wired: wire.Candle, instrument: InstrumentId, ts_recv_ns: int, *, is_closed: bool
) -> Candle:
    """A candle; the venue's end of it is its last millisecond."""
    if wired.t > wired.T:
        raise ValueError(f"candle from {wired.t} to {wired.T}")
    ends = positive(wired.o), positive(wired.c)
    high, low = positive(wired.h), positive(wired.l)
    if not low <= min(ends) <= max(ends) <= high:
        raise ValueError(f"candle of {wired.o}, {wired.h}, {wired.l}, {wired.c}")
    volume = number(wired.v)
    if volume < 0:
        raise ValueError(f"volume {wired.v}")
    return Candle(
        instrument_id=instrument,
        interval=wired.i,
        open=ends[0],
        high=high,
        low=low,
        close=ends[1],
        volume=volume,
        trades=wired.n,
        is_closed=is_closed,
        ts_open_ns=nanoseconds(wired.t),
        ts_close_ns=nanoseconds(wired.T + 1),
        ts_event_ns=nanoseconds(wired.T + 1) if is_closed else ts_recv_ns,
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
        is_liquidation=_is_of(account, wired.liquidation),
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


def liquidation(
    wired: wire.Liquidation, text: str, account: AccountId, ts_recv_ns: int
) -> AccountLiquidated | None:
    """A forced close of this account, told by *text*; None when we took over somebody else's."""
    told = wired.liquidated_user
    if told is not None and not account.endswith(told.lower()):
        return None
    return AccountLiquidated(
        account_id=account,
        detail=text[:_DETAIL_CHARS],
        notional=_perhaps(wired.liquidated_ntl_pos),
        equity=_perhaps(wired.liquidated_account_value),
        ts_event_ns=ts_recv_ns,
    )


def venue_cancel(wired: wire.CanceledOrder, account: AccountId, ts_recv_ns: int) -> CancelReport:
    """An order that the venue cancelled, nobody asked for it."""
    return CancelReport(
        account_id=account,
        instrument_id=instrument_id(VENUE, wired.coin),
        venue_order_id=VenueOrderId(str(wired.oid)),
        reason="nonUserCancel",
        ts_recv_ns=ts_recv_ns,
    )


def spot_balances(state: wire.SpotState) -> tuple[Balance, ...]:
    """The tokens of the spot wallet; what orders hold is not free."""
    return tuple(
        Balance(
            currency=held.coin,
            total=number(held.total),
            free=number(held.total) - number(held.hold),
            is_spot=True,
        )
        for held in state.balances
    )


def account_report(
    state: wire.ClearinghouseState,
    spot: Sequence[Balance],
    orders: Sequence[wire.Order],
    account: AccountId,
    ts_recv_ns: int,
    *,
    pairs: Mapping[str, InstrumentId],
) -> AccountReport:
    """Figures, positions and open orders of one moment.

    *pairs*: the instrument in which a token of the spot wallet counts as a position.
    """
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
            balances=(balance, *spot),
            equity=equity,
            margin_used=number(state.margin_summary.total_margin_used),
            ts_event_ns=ts_event_ns,
            ts_recv_ns=ts_recv_ns,
        ),
        positions=(
            *(
                _position(held.position, account, ts_event_ns, ts_recv_ns)
                for held in state.asset_positions
            ),
            *(
                _owned(pairs[held.currency], held.total, account, ts_event_ns, ts_recv_ns)
                for held in spot
                if held.currency in pairs
            ),
        ),
        open_orders=tuple(open_order(order, account, ts_recv_ns) for order in orders),
    )


def clock_skew(began_ns: int, ended_ns: int, status: wire.ExchangeStatus, date: str) -> ClockSkew:
    """Our clock against an answer that came between *began_ns* and *ended_ns* of it."""
    if status.time is not None:
        venue_ns, rounded_ns = nanoseconds(status.time), _NS_PER_MS
    else:
        seconds = parsedate_to_datetime(date).timestamp()
        venue_ns, rounded_ns = round(seconds) * _NS_PER_S + _NS_PER_S // 2, _NS_PER_S // 2
    middle_ns = (began_ns + ended_ns) // 2
    error_ns = (ended_ns - began_ns) // 2 + rounded_ns
    return ClockSkew(ahead_ns=middle_ns - venue_ns, error_ns=error_ns)


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
        time_in_force=None if order.tif is None else _TIMES_IN_FORCE.get(order.tif),
        post_only=None if order.tif is None else order.tif == "Alo",
        reduce_only=order.reduce_only,
        is_trigger=order.is_trigger,
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


def _owned(
    pair: InstrumentId, quantity: Decimal, account: AccountId, ts_event_ns: int, ts_recv_ns: int
) -> PositionReport:
    return PositionReport(
        account_id=account,
        instrument_id=pair,
        quantity=quantity,
        average_entry_price=None,
        ts_event_ns=ts_event_ns,
        ts_recv_ns=ts_recv_ns,
    )


def _is_of(account: AccountId, told: wire.FillLiquidation | None) -> bool:
    return (
        told is not None
        and told.liquidated_user is not None
        and account.endswith(told.liquidated_user.lower())
    )


def _perhaps(text: str | None) -> Decimal | None:
    """A number that is nice to know."""
    return None if text is None or not _NUMBER.fullmatch(text) else Decimal(text)
