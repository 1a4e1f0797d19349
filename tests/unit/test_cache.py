"""The cache, one promise a test; `tests/property/test_cache.py` compares it with recomputation."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve

from zq_daemon.core.book import OrderBook
from zq_daemon.core.cache import Cache
from zq_daemon.errors import OrderError
from zq_daemon.model.account import Account
from zq_daemon.model.bar import Bar, BarSpec
from zq_daemon.model.ids import (
    AccountId,
    ClientOrderId,
    InstrumentId,
    StrategyId,
    Venue,
    VenueOrderId,
)
from zq_daemon.model.instrument import Instrument, InstrumentKind
from zq_daemon.model.market import (
    BookLevel,
    BookSnapshot,
    InstrumentStatus,
    Levels,
    MarkPrice,
    Quote,
    Side,
    Trade,
    TradingStatus,
)
from zq_daemon.model.order import Order, OrderStatus, OrderType, Pending
from zq_daemon.model.position import Position

BTC = InstrumentId("hyperliquid.BTC")
ETH = InstrumentId("hyperliquid.ETH")
MAKER = StrategyId("maker")
CROSS = StrategyId("cross")
ACCOUNT = AccountId("0xabc")
TIMES: dict[str, Any] = {"ts_event_ns": 1, "ts_recv_ns": 2}


def test_instruments() -> None:
    cache = Cache()
    btc = _instrument(BTC, 1)
    cache.add_instrument(_instrument(ETH, 2))
    cache.add_instrument(_instrument(BTC, 9))
    cache.add_instrument(btc)
    assert cache.instrument(BTC) is btc
    assert cache.instrument(InstrumentId("hyperliquid.XYZ")) is None
    assert [each.id for each in cache.instruments()] == [ETH, BTC]


def test_the_latest_of_each_kind_of_market_data() -> None:
    cache = Cache()
    status = InstrumentStatus(
        instrument_id=BTC, status=TradingStatus.STALE, reason="silent", **TIMES
    )
    assert cache.trade(BTC) is cache.quote(BTC) is cache.mark(BTC) is cache.status(BTC) is None
    cache.put_trade(_trade("1"))
    cache.put_trade(_trade("2"))
    cache.put_quote(_quote("1", "2"))
    cache.put_mark(_mark("3"))
    cache.put_status(status)
    assert cache.trade(BTC) == _trade("2")
    assert cache.quote(BTC) == _quote("1", "2")
    assert cache.mark(BTC) == _mark("3")
    assert cache.status(BTC) is status
    assert cache.trade(ETH) is None


def test_the_latest_bar_of_each_spec() -> None:
    cache = Cache()
    minute, hundred = BarSpec.parse("1m"), BarSpec.parse("100tick")
    bar = _bar(minute)
    cache.put_bar(bar)
    assert cache.bar(BTC, BarSpec.parse("1m")) is bar
    assert cache.bar(BTC, hundred) is None
    assert cache.bar(ETH, minute) is None


def test_positions_and_accounts() -> None:
    cache = Cache()
    account = Account(
        account_id=ACCOUNT, balances=(), equity=Decimal(1), margin_used=Decimal(0), **TIMES
    )
    long = Position(account_id=ACCOUNT, instrument_id=BTC, quantity=Decimal(1))
    flat = Position(account_id=ACCOUNT, instrument_id=ETH)
    assert cache.position(ACCOUNT, BTC) is None
    cache.put_position(evolve(long, quantity=Decimal(2)))
    cache.put_position(long)
    cache.put_position(flat)
    assert cache.position(ACCOUNT, BTC) is long
    assert cache.position(AccountId("other"), BTC) is None
    assert cache.positions() == (long, flat)
    assert cache.account(ACCOUNT) is None
    cache.put_account(account)
    assert cache.account(ACCOUNT) is account


def test_worth_is_the_mark_else_the_mid_else_the_last_trade() -> None:
    cache = Cache()
    assert cache.mid_or_mark(BTC) is None
    cache.put_trade(_trade("90"))
    assert cache.mid_or_mark(BTC) == 90
    cache.put_book(BTC, OrderBook(BTC))
    assert cache.mid_or_mark(BTC) == 90
    cache.put_book(BTC, _book("100", "102"))
    assert cache.mid_or_mark(BTC) == 101
    cache.put_quote(_quote("100", None))
    assert cache.mid_or_mark(BTC) == 101
    cache.put_quote(_quote("102", "103"))
    assert cache.mid_or_mark(BTC) == Decimal("102.5")
    cache.put_mark(_mark("99"))
    assert cache.mid_or_mark(BTC) == 99


def test_a_book_is_shown_as_it_stands() -> None:
    cache = Cache()
    book = _book("1", "2")
    assert cache.book(BTC) is None
    cache.put_book(BTC, book)
    assert cache.book(BTC) is book


@pytest.mark.parametrize(
    ("status", "pending", "groups"),
    [
        (OrderStatus.INITIALIZED, None, {"live"}),
        (OrderStatus.JOURNALLED, None, {"live", "in_flight"}),
        (OrderStatus.SUBMITTED, None, {"live", "in_flight"}),
        (OrderStatus.ACCEPTED, None, {"live", "open"}),
        (OrderStatus.ACCEPTED, Pending.CANCEL, {"live", "open", "in_flight"}),
        (OrderStatus.PARTIALLY_FILLED, Pending.MODIFY, {"live", "open", "in_flight"}),
        (OrderStatus.FILLED, None, {"closed"}),
        (OrderStatus.CANCELED, Pending.CANCEL, {"closed"}),
        (OrderStatus.DENIED, None, {"closed"}),
    ],
)
def test_which_indices_an_order_is_in(
    status: OrderStatus, pending: Pending | None, groups: set[str]
) -> None:
    cache = Cache()
    order = _order(1, status, pending=pending)
    cache.put_order(_order(1, OrderStatus.INITIALIZED))
    cache.put_order(order)
    views = {
        "open": cache.orders_open(),
        "in_flight": cache.orders_in_flight(),
        "live": cache.orders_live(),
        "closed": cache.orders_closed(),
    }
    assert {name: list(view) for name, view in views.items() if view} == {
        name: [order] for name in groups
    }
    assert cache.open_count() == len(views["open"])
    assert cache.live_count() == len(views["live"])


def test_orders_by_instrument_and_strategy() -> None:
    cache = Cache()
    orders = [
        _order(1, instrument_id=BTC, strategy_id=MAKER),
        _order(2, instrument_id=BTC, strategy_id=CROSS),
        _order(3, instrument_id=ETH, strategy_id=MAKER),
    ]
    for order in orders:
        cache.put_order(order)
    assert list(cache.orders_open()) == orders
    assert list(cache.orders_open(instrument_id=BTC)) == orders[:2]
    assert list(cache.orders_open(strategy_id=MAKER)) == [orders[0], orders[2]]
    assert list(cache.orders_open(instrument_id=BTC, strategy_id=CROSS)) == [orders[1]]
    assert list(cache.orders_open(instrument_id=ETH, strategy_id=CROSS)) == []
    assert cache.open_count(instrument_id=BTC) == 2
    assert cache.live_count(strategy_id=MAKER) == 2


def test_a_view_is_live_and_stays_so_when_its_group_empties() -> None:
    cache = Cache()
    cache.put_order(_order(1))
    view = cache.orders_open(instrument_id=BTC, strategy_id=MAKER)
    cache.put_order(_order(1, OrderStatus.CANCELED))
    assert len(view) == 0
    cache.put_order(_order(2))
    assert list(view) == [_order(2)]


def test_a_replaced_order_keeps_its_place() -> None:
    cache = Cache()
    for number in (1, 2):
        cache.put_order(_order(number))
    filled = _order(1, OrderStatus.PARTIALLY_FILLED)
    cache.put_order(filled)
    assert list(cache.orders_open()) == [filled, _order(2)]


def test_an_order_cannot_change_hands() -> None:
    cache = Cache()
    cache.put_order(_order(1))
    for change in (
        {"strategy_id": CROSS},
        {"instrument_id": ETH},
        {"account_id": AccountId("other")},
    ):
        with pytest.raises(OrderError, match="cannot become one of"):
            cache.put_order(evolve(_order(1), **change))
    assert list(cache.orders_open()) == [_order(1)]


def test_the_oldest_closed_orders_are_forgotten_with_their_venue_ids() -> None:
    cache = Cache(closed_orders=2)
    cache.put_order(_order(0, venue_order_id="live"))
    for number in (1, 2, 3):
        cache.put_order(_order(number, venue_order_id=f"v{number}"))
    for number in (2, 1, 3):
        cache.put_order(_order(number, OrderStatus.FILLED, venue_order_id=f"v{number}"))
    assert [each.client_order_id for each in cache.orders_closed()] == ["1", "3"]
    assert cache.order(ClientOrderId("2")) is None
    assert cache.order_by_venue_id(ACCOUNT, VenueOrderId("v2")) is None
    assert cache.order(ClientOrderId("1")) is not None
    assert cache.order_by_venue_id(ACCOUNT, VenueOrderId("v1")) is not None
    assert cache.orders_closed(instrument_id=BTC, strategy_id=MAKER) is not None
    assert cache.live_count() == 1


def test_an_order_that_closed_and_changes_again_does_not_close_anew() -> None:
    cache = Cache(closed_orders=2)
    cache.put_order(_order(1, OrderStatus.EXPIRED))
    cache.put_order(_order(2, OrderStatus.FILLED))
    cache.put_order(_order(1, OrderStatus.FILLED))
    cache.put_order(_order(3, OrderStatus.FILLED))
    assert [each.client_order_id for each in cache.orders_closed()] == ["2", "3"]


def test_an_order_that_is_live_again_is_not_forgotten() -> None:
    cache = Cache(closed_orders=1)
    cache.put_order(_order(1, OrderStatus.EXPIRED))
    cache.put_order(_order(1, OrderStatus.ACCEPTED))
    cache.put_order(_order(2, OrderStatus.FILLED))
    cache.put_order(_order(3, OrderStatus.FILLED))
    assert cache.order(ClientOrderId("1")) == _order(1)
    assert cache.order(ClientOrderId("2")) is None


def test_no_closed_orders_can_be_kept_at_all() -> None:
    cache = Cache(closed_orders=0)
    cache.put_order(_order(1, OrderStatus.FILLED))
    assert cache.order(ClientOrderId("1")) is None


def test_venue_ids_belong_to_an_account() -> None:
    cache = Cache()
    other = AccountId("other")
    mine, theirs = _order(1, venue_order_id="7"), _order(2, venue_order_id="7", account_id=other)
    cache.put_order(mine)
    cache.put_order(theirs)
    assert cache.order_by_venue_id(ACCOUNT, VenueOrderId("7")) is mine
    assert cache.order_by_venue_id(other, VenueOrderId("7")) is theirs
    assert cache.order_by_venue_id(other, VenueOrderId("8")) is None


def test_a_modified_order_is_found_by_its_last_venue_ids() -> None:
    cache = Cache(closed_orders=0)
    for number in range(100):
        cache.put_order(_order(1, venue_order_id=str(number)))
    found = [n for n in range(100) if cache.order_by_venue_id(ACCOUNT, VenueOrderId(str(n)))]
    assert found == list(range(84, 100))
    cache.put_order(_order(1, OrderStatus.FILLED, venue_order_id="99"))
    assert cache.order_by_venue_id(ACCOUNT, VenueOrderId("99")) is None
    assert cache.order_by_venue_id(ACCOUNT, VenueOrderId("84")) is None


def test_a_venue_id_given_again_means_the_order_that_got_it_last() -> None:
    cache = Cache(closed_orders=1)
    cache.put_order(_order(1, OrderStatus.FILLED, venue_order_id="7"))
    cache.put_order(_order(2, venue_order_id="7"))
    assert cache.order_by_venue_id(ACCOUNT, VenueOrderId("7")) == _order(2, venue_order_id="7")
    cache.put_order(_order(3, OrderStatus.FILLED))
    assert cache.order(ClientOrderId("1")) is None
    assert cache.order_by_venue_id(ACCOUNT, VenueOrderId("7")) == _order(2, venue_order_id="7")


def _order(number: int, status: OrderStatus = OrderStatus.ACCEPTED, **values: Any) -> Order:
    return Order(
        **{
            "client_order_id": ClientOrderId(str(number)),
            "strategy_id": MAKER,
            "account_id": ACCOUNT,
            "instrument_id": BTC,
            "side": Side.BUY,
            "order_type": OrderType.LIMIT,
            "quantity": Decimal(1),
            "price": Decimal(1),
            "status": status,
            **values,
        }
    )


def _instrument(instrument_id: InstrumentId, asset_id: int) -> Instrument:
    return Instrument(
        id=instrument_id,
        venue=Venue("hyperliquid"),
        symbol=instrument_id.partition(".")[2],
        kind=InstrumentKind.PERPETUAL,
        base_currency="X",
        quote_currency="USDC",
        asset_id=asset_id,
        price_decimals=2,
        price_figures=5,
        quantity_decimals=3,
        min_notional=Decimal(10),
    )


def _trade(price: str) -> Trade:
    return Trade(
        instrument_id=BTC,
        price=Decimal(price),
        quantity=Decimal(1),
        aggressor=Side.BUY,
        trade_id=price,
        **TIMES,
    )


def _quote(bid: str | None, ask: str | None) -> Quote:
    return Quote(
        instrument_id=BTC,
        bid_price=None if bid is None else Decimal(bid),
        bid_quantity=None if bid is None else Decimal(1),
        ask_price=None if ask is None else Decimal(ask),
        ask_quantity=None if ask is None else Decimal(1),
        **TIMES,
    )


def _mark(price: str) -> MarkPrice:
    return MarkPrice(
        instrument_id=BTC,
        mark_price=Decimal(price),
        oracle_price=None,
        funding_rate=None,
        open_interest=None,
        **TIMES,
    )


def _bar(spec: BarSpec) -> Bar:
    one = Decimal(1)
    return Bar(
        instrument_id=BTC,
        spec=spec,
        open=one,
        high=one,
        low=one,
        close=one,
        volume=one,
        notional=one,
        trades=1,
        ts_open_ns=0,
        ts_close_ns=1,
        **TIMES,
    )


def _book(bid: str, ask: str) -> OrderBook:
    book = OrderBook(BTC)
    book.apply_snapshot(
        BookSnapshot(
            instrument_id=BTC,
            bids=Levels.of([BookLevel(Decimal(bid), Decimal(1))]),
            asks=Levels.of([BookLevel(Decimal(ask), Decimal(1))]),
            **TIMES,
        )
    )
    return book
