"""Real messages, bent, through all of the daemon that is synchronous: nothing raises, all adds up.

From the session's bytes over data engine, execution engine, bus and the strategies that ship to
what `status` shows. The session alone is tested in `test_hl_session`.
"""

from __future__ import annotations

import copy
import gzip
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.harness.journal_life import ListLog
from tests.harness.memory_network import MemoryNetwork
from zq_daemon.assembly import Assembly, Ports, find_signer, open_adapter
from zq_daemon.config.load import parse_document, structure_config
from zq_daemon.config.source import Source
from zq_daemon.control.status import status_of
from zq_daemon.control.summary import log_summary
from zq_daemon.journal.journal import Journal
from zq_daemon.journal.state import empty_state
from zq_daemon.model.event import LinkState, Tick
from zq_daemon.model.ids import ClientOrderId, InstrumentId, StrategyId, VenueOrderId
from zq_daemon.model.market import Side, Trade
from zq_daemon.model.order import Order, OrderStatus, OrderType
from zq_daemon.ports.disk import MemoryDisk
from zq_daemon.ports.rng import seeded_rng
from zq_daemon.venue.hyperliquid import decode, wire
from zq_daemon.venue.hyperliquid.instruments import perpetuals

BTC = InstrumentId("hyperliquid.BTC")
CLOID = ClientOrderId("0x" + "0" * 31 + "7")
CONFIG = """
tick_interval_ms = 100
[exchange]
enabled = true
[[ws_endpoints]]
url = "ws://venue/ws"
streams = ["l2Book:BTC", "trades:BTC", "bbo:BTC", "activeAssetCtx:BTC", "orderUpdates", "userFills"]
[[strategies]]
name = "trend"
use = "zq_daemon.strategy.ma_cross:MovingAverageCross"
instruments = ["hyperliquid.BTC"]
bars = ["1s", "2tick"]
params = { fast = 1, slow = 2, quantity = "0.001" }
[[strategies]]
name = "maker"
use = "zq_daemon.strategy.market_maker:MarketMaker"
instruments = ["hyperliquid.BTC"]
params = { spread_bps = "2", quantity = "0.001", max_position = "0.01" }
"""
_CAPTURE = Path(__file__).parents[1] / "data" / "synthetic.gz"
_ORDER = {
    "coin": "BTC",
    "side": "B",
    "limitPx": "64000.0",
    "sz": "0.005",
    "oid": 77,
    "timestamp": 1_700_000_000_000,
    "origSz": "0.01",
    "cloid": CLOID,
}
_FILL = {
    "coin": "BTC",
    "px": "64000.0",
    "sz": "0.002",
    "side": "B",
    "time": 1_700_000_000_000,
    "startPosition": "0.0",
    "dir": "Open Long",
    "closedPnl": "0.0",
    "hash": "0x0",
    "oid": 77,
    "crossed": True,
    "fee": "0.01",
    "tid": 5,
    "feeToken": "USDC",
    "cloid": CLOID,
}


def _market_messages() -> list[dict[str, Any]]:
    """Of each channel the first few of the capture about BTC."""
    lines = gzip.decompress(_CAPTURE.read_bytes()).splitlines()
    found: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        message = msgspec.json.decode(line.partition(b" ")[2])
        if b'"BTC"' in line:
            found.setdefault(message["channel"], []).append(message)
    return [message for messages in found.values() for message in messages[:3]]


STATEMENT = {
    "marginSummary": {"accountValue": "10000.0", "totalMarginUsed": "10.0"},
    "withdrawable": "9000.0",
    "assetPositions": [
        {"position": {"coin": "BTC", "szi": "0.001", "entryPx": "64000.0", "unrealizedPnl": "1.0"}}
    ],
    "time": 1_700_000_000_000,
}
_state = wire.decoder(wire.ClearinghouseState)


def _update(word: str) -> dict[str, Any]:
    update = {"order": _ORDER, "status": word, "statusTimestamp": 1_700_000_000_001}
    return {"channel": "orderUpdates", "data": [update]}


MESSAGES = [
    *_market_messages(),
    *map(_update, ("open", "filled", "canceled", "badAloPxRejected")),
    {"channel": "userFills", "data": {"user": "0x0", "fills": [_FILL, _FILL | {"tid": 6}]}},
    {"channel": "userFills", "data": {"user": "0x0", "isSnapshot": True, "fills": [_FILL]}},
    {"channel": "user", "data": {"funding": {"time": 1, "coin": "BTC", "usdc": "-3.6"}}},
]
_NUMBERS = ["0", "-1", "0.00000001", "9" * 20, f"{'9' * 20}.{'9' * 20}", f"0.{'0' * 19}1", "NaN"]
_VALUES = (
    st.sampled_from([*_NUMBERS, "", "A", "B", "BTC", "ETH", CLOID, None, True, [], {}])
    | st.integers(-(2**64), 2**64)
    | st.text(max_size=5)
)


class HandClock:
    """Both times at once, moved by hand."""

    def __init__(self) -> None:
        self.ns = 1_700_000_000 * 10**9

    def now_ns(self) -> int:
        return self.ns

    def monotonic_ns(self) -> int:
        return self.ns


class World:
    """A daemon's parts, one order of the maker's resting at the venue."""

    def __init__(self) -> None:
        self.clock = HandClock()
        config = structure_config(parse_document(CONFIG, "test"))
        network, rng = MemoryNetwork(), seeded_rng(1)
        ports = Ports(clock=self.clock, rng=rng, network=network, disk=MemoryDisk())
        adapter = open_adapter(config, ports, find_signer(config, rng))
        meta = wire.PerpetualMeta(universe=[wire.Asset("BTC", 5)])
        self.parts = Assembly(
            config,
            ports,
            adapter=adapter,
            instruments=perpetuals(meta),
            journal=Journal(ListLog(), empty_state(closed_orders=100)),
            run_id=1,
            source=Source(name="test"),
        )
        self.session = adapter.session(config.ws_endpoints[0].streams)
        assert adapter.account_id is not None
        self.parts.cache.put_order(
            Order(
                client_order_id=CLOID,
                strategy_id=StrategyId("maker"),
                account_id=adapter.account_id,
                instrument_id=BTC,
                side=Side.BUY,
                order_type=OrderType.LIMIT,
                quantity=Decimal("0.01"),
                price=Decimal(64_000),
                status=OrderStatus.ACCEPTED,
                venue_order_ids=(VenueOrderId("77"),),
                venue_order_id=VenueOrderId("77"),
                ts_init_ns=self.clock.ns,
                ts_last_ns=self.clock.ns,
            )
        )
        (link,) = self.parts.links.endpoints
        link.state = LinkState.UP
        self.take_statement(msgspec.json.encode(STATEMENT))
        self.parts.strategies.start()
        self.trades: list[str] = []
        self.parts.bus.subscribe(
            "market_data.trade.*", lambda one: self.trades.append(one.trade_id)
        )

    def take(self, message: bytes) -> None:
        """One message, and what the daemon does besides."""
        self.clock.ns += 300_000_000
        received = self.session.receive(message, self.clock.ns)
        for event in received.market:
            self.parts.dispatcher.dispatch(event)
        for report in received.reports:
            self.parts.execution.on_report(report)
        self.parts.dispatcher.dispatch(self._tick())
        for chore in self.parts.chores():
            chore(self.clock.ns)

    def take_statement(self, content: bytes) -> None:
        """An answer to the query of the account, if it can be read."""
        account_id = self.parts.adapter.account_id
        assert account_id is not None
        try:
            report = decode.account_report(
                _state.decode(content), [], [], account_id, self.clock.ns, pairs={}
            )
        except ValueError:
            return
        self.parts.execution.on_report(report)

    def _on_trade(self, trade: Trade) -> None:
        self.trades.append(trade.trade_id)

    def _tick(self) -> Tick:
        now_ns = self.clock.ns
        return Tick(count=1, missed=0, ts_event_ns=now_ns, ts_monotonic_ns=now_ns)

    def check(self) -> None:
        """Nothing raised, nothing came twice, everything can be shown."""
        assert self.parts.bus.faults == 0
        assert len(set(self.trades)) == len(self.trades)
        for status in self.parts.strategies.status():
            assert status["state"] == "running"
        msgspec.json.encode(status_of(self.parts, {}))
        log_summary(self.parts)


@given(st.lists(st.sampled_from([*MESSAGES, STATEMENT]), min_size=1, max_size=12), st.data())
@settings(max_examples=60)
def test_bent_messages_harm_nothing(messages: list[dict[str, Any]], data: st.DataObject) -> None:
    with capture_logs():
        world = World()
        for message in messages:
            bent = copy.deepcopy(message)
            for _ in range(data.draw(st.integers(0, 2))):
                _bend(bent, data)
            take = world.take_statement if message is STATEMENT else world.take
            take(msgspec.json.encode(bent))
            world.check()


def _bend(message: dict[str, Any], data: st.DataObject) -> None:
    holder, key = data.draw(st.sampled_from(list(_places(message))))
    kind = data.draw(st.sampled_from(["number", "value", "drop", "double"]))
    if kind == "number" and isinstance(holder[key], str):
        holder[key] = data.draw(st.sampled_from(_NUMBERS))
    elif kind == "drop":
        del holder[key]
    elif kind == "double" and isinstance(holder, list):
        holder.append(holder[key])
    else:
        holder[key] = data.draw(_VALUES)


def _places(value: Any) -> Any:
    """Every (container, key) of a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in list(items):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)
