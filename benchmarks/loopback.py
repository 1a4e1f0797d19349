"""From decision to bytes in a whole daemon, and on to the answer of an exchange in another process.

The orders are immediate ones that nothing matches, so that the exchange ends each of them at once.
One watch stops when the kernel has taken the frame, the other when the answer is an event.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from unittest.mock import patch

import trio
from attrs import evolve
from eth_account import Account
from hyperliquid.exchange import Exchange as SdkExchange

from benchmarks import values
from benchmarks.desk import CLOID, UNLIMITED
from benchmarks.measure import Scale
from benchmarks.metronome import keep_time
from benchmarks.orders import LIMIT_NS, Tails, middle, tails
from benchmarks.processes import exchange_process
from benchmarks.report import Row, duration, times
from benchmarks.scratch import file_system, scratch_folder
from zq_daemon.assembly import Ports, system_ports
from zq_daemon.config.schema import (
    DaemonConfig,
    HyperliquidConfig,
    LogConfig,
    StrategyConfig,
    VenuesConfig,
    WsEndpointConfig,
)
from zq_daemon.daemon import Daemon, open_daemon
from zq_daemon.model.event import OrderEvent
from zq_daemon.model.ids import StrategyId
from zq_daemon.model.market import Side
from zq_daemon.model.order import TimeInForce
from zq_daemon.ports.disk import Disk, MemoryDisk
from zq_daemon.ports.link import WebSocketLink
from zq_daemon.strategy.base import Strategy
from zq_daemon.telemetry.logging import configure
from zq_daemon.venue.hyperliquid.sign import AgentKey

RATES = (10, 200)
_KEY = f"{7:064x}"
_ROUNDS = 3
_AWAY = Decimal("0.97")


class Taker(Strategy):
    """Asks for what nobody sells, when it is told to."""

    def decide(self) -> str:
        """The client order id of the order that was asked for."""
        prices = self.context.best_prices(values.BTC)
        assert prices is not None
        return self.context.submit_limit(
            values.BTC,
            Side.BUY,
            Decimal("0.001"),
            prices[0] * _AWAY,
            time_in_force=TimeInForce.IOC,
        )


class Watch:
    """Since when each order was due, and how long each took to the socket and to its answer."""

    def __init__(self) -> None:
        self.due_ns: dict[str, int] = {}
        self.taken_ns, self.answered_ns = array("q"), array("q")
        self.left = 0
        self.done = trio.Event()
        self._sent_ns: dict[str, int] = {}

    def begin(self, count: int) -> None:
        """Forget what was measured; `done` is set when *count* orders have ended."""
        self.left, self.done = count, trio.Event()
        del self.taken_ns[:], self.answered_ns[:]

    def on_end(self, event: OrderEvent) -> None:
        """An order has ended: for one that was sent, that is the venue's answer."""
        sent_ns = self._sent_ns.pop(event.client_order_id, None)
        if sent_ns is not None:
            self.answered_ns.append(time.monotonic_ns() - sent_ns)
        self.left -= 1
        if not self.left:
            self.done.set()

    def on_sent(self, message: str) -> None:
        """The kernel has a message."""
        now_ns = time.monotonic_ns()
        for cloid in CLOID.findall(message):
            if cloid in self.due_ns:
                self.taken_ns.append(now_ns - self.due_ns.pop(cloid))
                self._sent_ns[cloid] = now_ns


def run(scale: Scale) -> Iterator[Row]:
    """Two rows for each rate: to the bytes, and from there to the answer."""
    for rate in RATES:
        count = max(int(rate * scale.paced_orders_s), scale.least_orders)
        measured = [_measure(rate, count) for _ in range(min(_ROUNDS, scale.rounds))]
        rounds = [to_bytes for to_bytes, _ in measured]
        in_memory, _ = _measure(rate, count, journal=MemoryDisk())
        median, least = middle(rounds), min(each.p99_ns for each in rounds)
        with scratch_folder() as folder:
            disk = file_system(folder)
        yield Row(
            name=f"whole daemon, {rate} orders/s, loopback socket, journal on {disk}: p50, p99",
            figure=f"{median} (least p99 of {len(rounds)} rounds {duration(least)})",
            against=f"in memory, without the history {in_memory}",
            limit=duration(LIMIT_NS),
            holds=median.p99_ns < LIMIT_NS,
        )
        answered, sdk = middle([to_answer for _, to_answer in measured]), _sdk_round_trips(count)
        yield Row(
            name=f"submit to acknowledgement, {rate} orders/s, loopback socket: p50, p99",
            figure=str(answered),
            against=f"the official SDK's request over HTTP, one after another {sdk} "
            f"({times(sdk.p50_ns, answered.p50_ns)} at p50)",
        )


def _sdk_round_trips(count: int) -> Tails:
    """The same order by the SDK: from the signed request over HTTP until it has the answer."""
    taken_ns = array("q")
    with exchange_process() as served:
        sdk = SdkExchange(Account.from_key(bytes.fromhex(_KEY)), served.url)
        post = sdk.post

        def timed(*request: object) -> object:
            began_ns = time.monotonic_ns()
            answer = post(*request)
            taken_ns.append(time.monotonic_ns() - began_ns)
            return answer

        with sdk.session, sdk.info.session, patch.object(sdk, "post", timed):
            price = float(round(float(sdk.info.all_mids()[values.COIN]) * float(_AWAY)))
            for _ in range(count):
                answer = sdk.order(values.COIN, True, 0.001, price, {"limit": {"tif": "Ioc"}})
                if answer["status"] != "ok":
                    raise RuntimeError(f"an order was refused: {answer}")
    return tails(taken_ns)


def _measure(rate: int, count: int, journal: Disk | None = None) -> tuple[Tails, Tails]:
    """Until the bytes have left, and from there until the answer is understood."""
    with (
        scratch_folder() as folder,
        exchange_process() as served,
        (folder / "log").open("w") as out,
    ):
        configure("info", "json", out)
        config = _config(folder, served.port)
        ports = system_ports(config)
        if journal is not None:
            ports = evolve(ports, disk=journal, databases=None)
        taken = trio.run(_pace, config, ports, rate, count)
        configure("error")
    return taken


async def _pace(config: DaemonConfig, ports: Ports, rate: int, count: int) -> tuple[Tails, Tails]:
    watch = Watch()
    async with _open(config, ports, watch) as daemon:
        taker = daemon.parts.strategies.strategies()[StrategyId("taker")]
        assert isinstance(taker, Taker)

        def decide(due_ns: int) -> None:
            watch.due_ns[taker.decide()] = due_ns

        for measured in (min(count, rate), count):
            watch.begin(measured)
            await keep_time(decide, rate, measured)
            await watch.done.wait()
    return tails(watch.taken_ns), tails(watch.answered_ns)


@asynccontextmanager
async def _open(config: DaemonConfig, ports: Ports, watch: Watch) -> AsyncIterator[Daemon]:
    """A daemon whose sent messages *watch* hears of."""
    send = WebSocketLink.send

    async def stamped(link: WebSocketLink, message: str) -> None:
        await send(link, message)
        watch.on_sent(message)

    with patch.object(WebSocketLink, "send", stamped):
        async with open_daemon(config, ports=ports) as daemon:
            await _wait_for_prices(daemon)
            for end in ("rejected", "canceled", "denied"):
                daemon.parts.bus.subscribe(f"order.{end}.*", watch.on_end)
            yield daemon


async def _wait_for_prices(daemon: Daemon) -> None:
    priced = trio.Event()
    heard = daemon.parts.bus.subscribe("orderbook.snapshot.*", lambda _: priced.set())
    await priced.wait()
    heard.cancel()


def _config(folder: Path, port: int) -> DaemonConfig:
    key_file, url = folder / "agent.key", f"ws://127.0.0.1:{port}/ws"
    key_file.touch(mode=0o600)
    key_file.write_text(_KEY)
    return DaemonConfig(
        state_dir=str(folder),
        risk=UNLIMITED,
        venues=VenuesConfig(
            hyperliquid=HyperliquidConfig(
                api_url=f"http://127.0.0.1:{port}",
                account=AgentKey.from_text(_KEY).address,
                key_file=str(key_file),
            )
        ),
        ws_endpoints=(
            WsEndpointConfig(url=url, streams=("l2Book:BTC",)),
            WsEndpointConfig(url=url, streams=("orderUpdates", "userFills")),
        ),
        strategies=(
            StrategyConfig(name="taker", use=f"{__name__}:Taker", instruments=(values.BTC,)),
        ),
        log=LogConfig(summary_interval_ms=0),
    )
