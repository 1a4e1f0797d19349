"""What is measured with: instruments, orders, and messages as Hyperliquid sends them."""

from __future__ import annotations

from decimal import Decimal

from zq_daemon.core.cache import Cache
from zq_daemon.model.ids import (
    AccountId,
    InstrumentId,
    StrategyId,
    TradeId,
    Venue,
    VenueOrderId,
    client_order_id,
    instrument_id,
)
from zq_daemon.model.instrument import Instrument, InstrumentKind
from zq_daemon.model.market import Quote, Side, Trade
from zq_daemon.model.order import Order, OrderStatus, OrderType

VENUE = Venue("hyperliquid")
COIN = "BTC"
BTC = instrument_id(VENUE, COIN)
ACCOUNT = AccountId(f"{VENUE}.0x{'a' * 40}")
TS_NS = 1_700_000_000_000_000_000


def instrument(symbol: str = COIN, asset_id: int = 0) -> Instrument:
    """A perpetual with Hyperliquid's rules."""
    return Instrument(
        id=instrument_id(VENUE, symbol),
        venue=VENUE,
        symbol=symbol,
        kind=InstrumentKind.PERPETUAL,
        base_currency=symbol,
        quote_currency="USDC",
        asset_id=asset_id,
        price_decimals=1,
        price_figures=5,
        quantity_decimals=5,
        min_notional=Decimal(10),
        max_leverage=50,
    )


def trade(number: int = 0) -> Trade:
    """A typed trade."""
    return Trade(
        instrument_id=BTC,
        price=Decimal("105055.0"),
        quantity=Decimal("0.0034"),
        aggressor=Side.BUY,
        trade_id=TradeId(str(number)),
        ts_event_ns=TS_NS,
        ts_recv_ns=TS_NS,
    )


def quote() -> Quote:
    """A typed best bid and offer."""
    return Quote(
        instrument_id=BTC,
        bid_price=Decimal("105055.0"),
        bid_quantity=Decimal(1),
        ask_price=Decimal("105056.0"),
        ask_quantity=Decimal(1),
        ts_event_ns=TS_NS,
        ts_recv_ns=TS_NS,
    )


def order(number: int, strategy: str, status: OrderStatus = OrderStatus.ACCEPTED) -> Order:
    """A limit order that rests, or has the *status* given."""
    return Order(
        client_order_id=client_order_id(1, number),
        strategy_id=StrategyId(strategy),
        account_id=ACCOUNT,
        instrument_id=InstrumentId(BTC),
        side=Side.BUY,
        order_type=OrderType.LIMIT,
        quantity=Decimal("0.001"),
        price=Decimal(40_000 + number),
        status=status,
        venue_order_id=VenueOrderId(str(number)),
        ts_init_ns=TS_NS,
        ts_last_ns=TS_NS,
    )


def cache_with_orders(count: int) -> Cache:
    """A cache with *count* open orders; ten of them are the strategy `few`'s."""
    cache = Cache()
    cache.add_instrument(instrument())
    for number in range(count):
        cache.put_order(order(number, "few" if number < 10 else "many"))
    return cache


def trade_message(trade_id: int, ts_ms: int = TS_NS // 1_000_000) -> str:
    """A `trades` message with one trade, about 330 bytes, as the venue writes it."""
    return (
        f'{{"channel":"trades","data":[{{"coin":"{COIN}","side":"B","px":"105055.0","sz":"0.0034",'
        f'"time":{ts_ms},"hash":"0x{"4d" * 32}","tid":{trade_id},'
        f'"users":["0x{"a1" * 20}","0x{"b2" * 20}"]}}]}}'
    )


def book_message(number: int, ts_ms: int = TS_NS // 1_000_000) -> str:
    """An `l2Book` message with 20 levels a side, about 1.7 KB; *number* varies its sizes."""
    bids = ",".join(_level(105_055 - step, number + step) for step in range(20))
    asks = ",".join(_level(105_056 + step, number + step) for step in range(20))
    return (
        f'{{"channel":"l2Book","data":{{"coin":"{COIN}","time":{ts_ms},'
        f'"levels":[[{bids}],[{asks}]]}}}}'
    )


def _level(price: int, size: int) -> str:
    return f'{{"px":"{price}.0","sz":"{size % 90 + 1}.03622","n":{size % 7 + 1}}}'
