"""Memory of the exchange and of the daemon while 200 orders a second pass, for ten minutes.

Two real processes. Each tick the daemon's strategy places ten orders: immediate ones that nothing
matches, and others that rest until the next tick; now and then one trades. What either process
keeps of its past has a limit that is reached in the first minutes, so that nothing may grow after
half of the time. With less time the sizes are told and not judged.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from eth_account import Account
from hyperliquid.exchange import Exchange as SdkExchange

from benchmarks.measure import Scale, resident_bytes
from benchmarks.processes import Served, exchange_process, python_process
from benchmarks.report import Row, size
from benchmarks.scratch import scratch_folder
from zq_daemon.model.event import Tick
from zq_daemon.model.market import Side
from zq_daemon.model.order import TimeInForce
from zq_daemon.strategy.base import Strategy
from zq_daemon.venue.hyperliquid.sign import AgentKey

RATE = 200
TICKS = 20
"""A second."""
FLAT = 1.05
"""How much larger a process may be at the end than after half of the time."""
_JUDGED_S = 600
_MARKS = (0.1, 0.5, 1.0)
_TRADES_EVERY = 10
_AWAY = Decimal("0.9")
_QUANTITY = Decimal("0.001")
_KEY = f"{9:064x}"
_PRETRADE = 1.0


class Pacer(Strategy):
    """So many orders with each tick, the same again and again."""

    def on_start(self) -> None:
        """Begin with a purchase."""
        self.ticks = 0

    def on_tick(self, tick: Tick) -> None:
        """Take back what rests, and place as many orders as the rate asks for."""
        btc = self.context.instruments[0]
        prices = self.context.best_prices(btc)
        if prices is None:
            return
        for order in self.context.open_orders():
            if order.pending is None:
                self.context.cancel(order.client_order_id)
        orders, ioc = RATE // TICKS, TimeInForce.IOC
        if self.ticks % _TRADES_EVERY == 0:
            orders -= 1
            side = Side.SELL if self.context.position(btc).quantity > 0 else Side.BUY
            self.context.submit_market(btc, side, _QUANTITY)
        for number in range(orders):
            price, tif = prices[0] * _AWAY, ioc if number % 2 else TimeInForce.GTC
            self.context.submit_limit(btc, Side.BUY, _QUANTITY, price, time_in_force=tif)
        self.ticks += 1


def run(scale: Scale) -> Iterator[Row]:
    """A row for the exchange, and one for the daemon."""
    account = AgentKey.from_text(_KEY).address
    with scratch_folder() as folder, exchange_process() as served:
        _earn_actions(served, account, int(scale.steady_s * RATE * 2))
        before, arguments = _actions(served, account)[0], _arguments(folder, served, account)
        with python_process(arguments, '"running"') as daemon:
            began = time.monotonic()
            sizes = _sizes((served.pid, daemon.pid), began, scale.steady_s)
            rate = (_actions(served, account)[0] - before) / (time.monotonic() - began)
    for name, seen in zip(("exchange", "daemon"), zip(*sizes, strict=True), strict=True):
        _, half, last = seen
        judged = scale.steady_s >= _JUDGED_S
        yield Row(
            name=f"memory of the {name}, {scale.steady_s:g} s at {RATE} orders/s, at 10 %, 50 %, "
            "100 %",
            figure=", ".join(map(size, seen)),
            against=f"{size(last - half)} more at the end than after half; "
            f"{rate:,.0f} orders and cancels/s",
            limit=f"{FLAT - 1:.0%} more",
            holds=last <= half * FLAT if judged else None,
        )


def _sizes(pids: Sequence[int], began: float, duration_s: float) -> list[tuple[int, ...]]:
    """The resident sets of these processes at each mark."""
    found = []
    for mark in _MARKS:
        time.sleep(max(began + duration_s * mark - time.monotonic(), 0))
        found.append(tuple(resident_bytes(pid) for pid in pids))
    return found


def _earn_actions(served: Served, account: str, count: int) -> None:
    """Trade until the account may send *count* actions: it gets one for each dollar."""
    sdk = SdkExchange(Account.from_key(bytes.fromhex(_KEY)), served.url)
    with sdk.session, sdk.info.session:
        while True:
            used, cap = _actions(served, account)
            if cap - used > count:
                return
            sdk.market_open("BTC", True, _PRETRADE)
            sdk.market_close("BTC")


def _actions(served: Served, account: str) -> tuple[int, int]:
    """How many actions the account has sent, and may send."""
    query = json.dumps({"type": "userRateLimit", "user": account}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{served.url}/info", query, headers)
    with urllib.request.urlopen(request) as answer:
        told: dict[str, Any] = json.load(answer)
    return int(told["nRequestsUsed"]), int(told["nRequestsCap"])


def _arguments(folder: Path, served: Served, account: str) -> tuple[str, ...]:
    """Of a daemon that is configured in *folder*."""
    key_file, config = folder / "agent.key", folder / "config.toml"
    key_file.touch(mode=0o600)
    key_file.write_text(_KEY)
    config.write_text(_CONFIG.format(port=served.port, account=account, name=__name__))
    return ("-m", "zq_daemon", "run", "--config", str(config))


_CONFIG = f"""
state_dir = "var"
tick_interval_ms = {1_000 // TICKS}
on_stop = "cancel"

[log]
format = "json"
summary_interval_ms = 0

[venues.hyperliquid]
api_url = "http://127.0.0.1:{{port}}"
account = "{{account}}"
key_file = "agent.key"
weight_per_minute = 0
messages_per_minute = 0

[risk]
max_orders_per_second = "off"
max_open_orders = "off"
max_daily_loss = "off"
price_collar_bps = "off"

[[ws_endpoints]]
name = "market"
url = "ws://127.0.0.1:{{port}}/ws"
streams = ["l2Book:BTC"]

[[ws_endpoints]]
name = "account"
url = "ws://127.0.0.1:{{port}}/ws"
streams = ["orderUpdates", "userFills"]

[[strategies]]
name = "pacer"
use = "{{name}}:Pacer"
instruments = ["hyperliquid.BTC"]
"""
