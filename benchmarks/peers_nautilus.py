"""Our parts and NautilusTrader's in one process, in turns: what `benchmarks.peers` prints.

Run by the peers' interpreter: `python -m benchmarks.peers_nautilus RESULTS full|quick`. The rows go
to the file RESULTS as JSON, since the peer prints to standard output what it likes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from statistics import median
from subprocess import DEVNULL
from subprocess import run as run_process
from tempfile import NamedTemporaryFile
from typing import Any

import trio
from nautilus_trader.backtest import BacktestEngine, BacktestEngineConfig
from nautilus_trader.common import Cache, MessageBus
from nautilus_trader.execution import MakerTakerFeeModel
from nautilus_trader.model import (
    AccountType,
    BookAction,
    BookOrder,
    BookType,
    CryptoPerpetual,
    Currency,
    InstrumentId,
    Money,
    OmsType,
    OrderBook,
    OrderBookDelta,
    OrderBookDeltas,
    OrderSide,
    Price,
    Quantity,
    QuoteTick,
    Symbol,
    TraderId,
    Venue,
)
from nautilus_trader.risk import RiskEngineConfig
from nautilus_trader.trading import Strategy, StrategyConfig

from benchmarks import book, bus, feed, idle, values
from benchmarks.measure import FULL, QUICK, Case, Scale, nanoseconds
from zq_daemon.core import topics
from zq_daemon.core.book import OrderBook as OwnBook
from zq_daemon.telemetry.logging import configure

BTC = InstrumentId.from_str("BTC.HYPERLIQUID")
COUNTS = (100, 10_000)
_OUTCOME = tuple[str, float, float, str]
"""What was measured, ours, theirs, and the unit: ns, bytes, s, or a share of a core."""


class Resting(Strategy):
    """Lets *count* orders rest at the simulated venue, then has the cache measured with them."""

    count: int
    measure: Callable[[Cache, Any], Iterator[_OUTCOME]]
    outcomes: Sequence[_OUTCOME] = ()
    quotes = 0

    def on_start(self) -> None:
        """The orders follow the first quote."""
        self.subscribe_quotes(BTC)

    def on_quote(self, quote: QuoteTick) -> None:
        """Submit at the first quote, measure at the second: then all have been accepted."""
        self.quotes += 1
        if self.quotes == 1:
            for number in range(self.count):
                price = Price.from_str(f"{40_000 + number}.0")
                order = self.order_factory.limit(
                    BTC, OrderSide.BUY, Quantity.from_str("0.00100"), price
                )
                self.submit_order(order)
            self.wanted = order.client_order_id
        elif self.quotes == 2:
            self.outcomes = list(self.measure(self.cache, self.wanted))


def main() -> None:
    results, scale = Path(sys.argv[1]), FULL if sys.argv[2] == "full" else QUICK
    configure("error")
    outcomes = [*_bus(scale), *_cache(scale), *_book(scale), *_feed(scale), *_processes(scale)]
    results.write_text(json.dumps(outcomes))


def _bus(scale: Scale) -> Iterator[_OUTCOME]:
    topic = topics.trade(values.BTC)
    for count in (1, 10):
        peer = MessageBus(TraderId("PEER-001"))
        for number in range(count):
            peer.subscribe("market_data.*" if number % 2 else topic, bus.handler())
        theirs = {"publish": peer.publish, "topic": topic, "event": values.trade()}
        cases = {
            "own": bus.publishing(count)["bus"],
            "peer": Case("publish(topic, event)", theirs),
        }
        yield _outcome(f"bus: publish to {count} handler{'s'[: count - 1]}", cases, scale)


def _cache(scale: Scale) -> Iterator[_OUTCOME]:
    for count in COUNTS:
        yield from _with_resting_orders(count, partial(_questions, count, scale))


def _questions(count: int, scale: Scale, cache: Cache, wanted: Any) -> Iterator[_OUTCOME]:
    assert cache.orders_open_count() == count
    ours = values.cache_with_orders(count)
    own: dict[str, Any] = {
        "cache": ours,
        "cloid": values.order(count - 1, "many").client_order_id,
        "iid": values.BTC,
    }
    ours.put_quote(values.quote())
    theirs: dict[str, Any] = {"cache": cache, "cloid": wanted, "iid": BTC}
    asked = {
        "open orders: the answer": ("cache.orders_open()", "cache.orders_open()"),
        "open orders: every price read": ("[order.price for order in cache.orders_open()]",) * 2,
        "open orders: their count": ("cache.open_count()", "cache.orders_open_count()"),
        "cache: an order by client order id": ("cache.order(cloid)", "cache.order(cloid)"),
        "cache: the latest quote": ("cache.quote(iid)", "cache.quote(iid)"),
    }
    for name, (own_statement, peer_statement) in asked.items():
        cases = {"own": Case(own_statement, own), "peer": Case(peer_statement, theirs)}
        yield _outcome(f"{name}, {count:,} open", cases, scale)


def _book(scale: Scale) -> Iterator[_OUTCOME]:
    """Both are given an event that is there already; ours still has its levels as text."""
    own, peer = OwnBook(values.BTC), OrderBook(BTC, BookType.L2_MBP)
    cases = {
        "own": Case(
            "book.apply_snapshot(snapshot()); book.best_bid; book.best_ask",
            {"book": own, "snapshot": partial(book.snapshot, book.LEVELS)},
        ),
        "peer": Case(
            "book.apply_deltas(snapshot); book.best_bid_price(); book.best_ask_price()",
            {"book": peer, "snapshot": _peer_snapshot()},
        ),
    }
    levels = f"{book.LEVELS} x {book.LEVELS}"
    yield _outcome(f"book: snapshot, {levels}, and both best prices", cases, scale)


def _feed(scale: Scale) -> Iterator[_OUTCOME]:
    """Our daemon and a LiveNode with its Hyperliquid client, on the same sender, in turns."""
    count = max(int(scale.paced_s * feed.RATE / feed.ROUNDS), 10)
    rounds = [
        (*trio.run(feed.paced, feed.TUNED, count), *_peer_feed(count, feed.RATE, feed.BOOKS_OF_TEN))
        for _ in range(feed.ROUNDS)
    ]
    p50, p99, cpu, _, peer_p50, peer_p99, peer_cpu = map(median, zip(*rounds, strict=True))
    name = f"frame to strategy, paced at {feed.RATE:,} msg/s"
    yield f"{name}: p50", p50, peer_p50, "ns"
    yield f"{name}: p99", p99, peer_p99, "ns"
    yield f"{name}: CPU a message", cpu, peer_cpu, "ns"
    count = scale.flat_out_messages
    for kind, books in feed.KINDS.items():
        taken = [
            (trio.run(feed.flat_out, feed.TUNED, count, books), _peer_feed(count, 0, books)[2])
            for _ in range(feed.ROUNDS)
        ]
        own, peer = map(median, zip(*taken, strict=True))
        yield f"frame to strategy, flat out, {kind}: CPU a message", own, peer, "ns"


def _peer_feed(count: int, rate: int, books: int) -> Sequence[float]:
    """p50, p99 and CPU a message."""
    with NamedTemporaryFile() as results:
        told = map(str, (count, rate, books))
        command = [sys.executable, "-m", "benchmarks.peers_feed", results.name, *told]
        run_process(command, check=True, cwd=feed.ROOT, stdout=DEVNULL)
        found: Sequence[float] = json.loads(results.read())
    return found


def _processes(scale: Scale) -> Iterator[_OUTCOME]:
    with idle.market_data_only() as config:
        own = idle.idle_daemon(config, scale.idle_s)
    peer = idle.idle_process(("-m", "benchmarks.peers_node"), scale.idle_s)
    yield "idle: RSS (ours hears 4 streams, the LiveNode none)", own.memory, peer.memory, "bytes"
    yield "idle: CPU (ours hears 4 streams, the LiveNode none)", own.cpu, peer.cpu, "share"
    imports = ("zq_daemon.daemon", "nautilus_trader.live")
    taken: dict[str, list[float]] = {name: [] for name in imports}
    for _ in range(scale.rounds):
        for name in imports:
            taken[name].append(_import_s(name))
    ours, theirs = map(median, taken.values())
    yield "import of what runs live", ours * 1e9, theirs * 1e9, "ns"


def _outcome(name: str, cases: dict[str, Case], scale: Scale) -> _OUTCOME:
    taken = nanoseconds(cases, scale)
    return name, taken["own"], taken["peer"], "ns"


def _with_resting_orders(
    count: int, measure: Callable[[Cache, Any], Iterator[_OUTCOME]]
) -> Sequence[_OUTCOME]:
    engine = BacktestEngine(
        BacktestEngineConfig(
            bypass_logging=True, run_analysis=False, risk_engine=RiskEngineConfig(bypass=True)
        )
    )
    engine.add_venue(
        Venue("HYPERLIQUID"),
        OmsType.NETTING,
        AccountType.MARGIN,
        [Money(1e9, Currency.from_str("USDC"))],
        fee_model=MakerTakerFeeModel(Decimal(0), Decimal(0)),
    )
    engine.add_instrument(_peer_instrument())
    engine.add_data([_peer_quote(second) for second in range(3)])
    strategy = Resting(StrategyConfig(log_events=False, log_commands=False))
    strategy.count, strategy.measure = count, measure
    engine.add_strategy(strategy)
    engine.run()
    engine.dispose()
    return strategy.outcomes


def _peer_instrument() -> CryptoPerpetual:
    base, quote = Currency.from_str("BTC"), Currency.from_str("USDC")
    steps = Price.from_str("0.1"), Quantity.from_str("0.00001")
    return CryptoPerpetual(BTC, Symbol("BTC"), base, quote, quote, False, 1, 5, *steps, 0, 0)


def _peer_quote(second: int) -> QuoteTick:
    prices = Price.from_str("105055.0"), Price.from_str("105056.0")
    sizes = Quantity.from_str("1.00000"), Quantity.from_str("1.00000")
    return QuoteTick(BTC, *prices, *sizes, second * 10**9, second * 10**9)


def _peer_snapshot() -> OrderBookDeltas:
    own = book.snapshot(book.LEVELS)
    sides: Sequence[tuple[Any, Any]] = ((OrderSide.BUY, own.bids), (OrderSide.SELL, own.asks))
    deltas = [OrderBookDelta.clear(BTC, 0, 0, 0)]
    for side, levels in sides:
        for level in levels:
            price, size = Price.from_str(str(level.price)), Quantity.from_str(str(level.quantity))
            order = BookOrder(side, price, size, 0)
            deltas.append(OrderBookDelta(BTC, BookAction.ADD, order, 0, 0, 0, 0))
    return OrderBookDeltas(BTC, deltas)


def _import_s(module: str) -> float:
    timed = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    told = run_process(
        [sys.executable, "-c", timed], check=True, capture_output=True, cwd=idle.ROOT
    )
    return float(told.stdout.split()[-1])


if __name__ == "__main__":
    main()
