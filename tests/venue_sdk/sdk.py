"""The official Python SDK, unmodified, as clients of an embedded exchange on a loopback port.

The exchange runs in a thread with a Trio loop of its own; the SDK blocks and has its own threads.
Every wait is on an event and bounded.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any

import eth_account
import trio
from hyperliquid.exchange import Exchange as SdkExchange
from hyperliquid.info import Info
from hyperliquid.websocket_manager import WebsocketManager

from zq_daemon.ports.clock import SystemClock
from zq_daemon.venue.exchange.exchange import Exchange
from zq_daemon.venue.exchange.server import run_market, serve_exchange
from zq_daemon.venue.exchange.source import MarketSource

PATIENCE_S = 30.0


class ShiftedClock:
    """The system's clock, put forward by hand."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self.shift_ns = 0

    def now_ns(self) -> int:
        return self._clock.now_ns() + self.shift_ns

    def monotonic_ns(self) -> int:
        return self._clock.monotonic_ns() + self.shift_ns


class Served:
    """An exchange in its thread: *url* is what clients are given."""

    def __init__(
        self,
        exchange: Exchange,
        clock: ShiftedClock,
        port: int,
        token: trio.lowlevel.TrioToken,
    ) -> None:
        self.exchange = exchange
        self._clock = clock
        self.url = f"http://127.0.0.1:{port}"
        self._token = token
        self._traders: list[Trader] = []
        self._ears: list[Ear] = []

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call *function* in the exchange's own thread, where alone it may be touched."""
        return trio.from_thread.run_sync(function, *arguments, trio_token=self._token)

    def pass_time(self, ms: int) -> None:
        """Put the exchange's clock forward, and let it do what is due."""

        def forward() -> None:
            self._clock.shift_ns += ms * 1_000_000
            self.exchange.wake()

        self.call(forward)

    def trader(self, number: int | str, **options: Any) -> Trader:
        """The SDK signing with the key of that number."""
        self._traders.append(Trader(self.url, number, **options))
        return self._traders[-1]

    def listen(self, trader: Trader, *subscriptions: dict[str, Any]) -> Ear:
        """A WebSocket of the SDK that hears these streams."""
        self._ears.append(Ear(trader.info, *subscriptions))
        return self._ears[-1]

    def close(self) -> None:
        """End the SDK's threads and connections."""
        # The SDK's own close leaves its reader waiting for ten seconds, unless the far side ends.
        self.call(self.exchange.drop_connections)
        for ear in self._ears:
            ear.close()
        for trader in self._traders:
            trader.close()


class Trader:
    """A wallet, and the SDK's two halves with it."""

    def __init__(self, url: str, number: int | str, **options: Any) -> None:
        key = number if isinstance(number, str) else f"0x{number:064x}"
        self.wallet = eth_account.Account.from_key(key)
        self.address: str = self.wallet.address
        self.sdk = SdkExchange(self.wallet, url, timeout=PATIENCE_S, **options)
        self.info: Info = self.sdk.info

    def statuses(self, reply: Any) -> list[Any]:
        assert reply["status"] == "ok", reply
        found: list[Any] = reply["response"]["data"]["statuses"]
        return found

    def limit(
        self, coin: str, side: str, size: float, price: float, *, tif: str = "Gtc", **terms: Any
    ) -> Any:
        """Place a limit order; its one status."""
        terms = {"order_type": {"limit": {"tif": tif}}} | terms
        reply = self.sdk.order(coin, side == "buy", size, price, **terms)
        (status,) = self.statuses(reply)
        return status

    def rest(self, coin: str, side: str, size: float, price: float, **terms: Any) -> int:
        """Place an order that rests; its order id."""
        status = self.limit(coin, side, size, price, **terms)
        assert "resting" in status, status
        oid: int = status["resting"]["oid"]
        return oid

    def close(self) -> None:
        self.sdk.session.close()
        self.info.session.close()


class Ear:
    """The SDK's WebSocket manager with subscriptions; what each hears waits in order."""

    def __init__(self, info: Info, *subscriptions: dict[str, Any]) -> None:
        self._manager = WebsocketManager(info.base_url)
        self._info = info
        self._heard: dict[str, queue.Queue[Any]] = {}
        self._updates: list[Any] = []
        for each in (*subscriptions, {"type": "allMids"}):
            self.subscribe(each)
        # Started only now: what is subscribed to before the socket is open waits in the manager.
        self._manager.start()
        # The last one opens with a message: from then on all of them are heard.
        self.next("allMids")

    def subscribe(self, subscription: dict[str, Any]) -> int:
        """Listen to one more stream; the SDK's number of the subscription."""
        info, info.ws_manager = self._info, self._manager
        heard = self._heard.setdefault(subscription["type"], queue.Queue())
        number: int = info.subscribe(subscription, heard.put)
        info.ws_manager = None
        return number

    def leave(self, subscription: dict[str, Any], number: int) -> None:
        """Listen to a stream no more."""
        info, info.ws_manager = self._info, self._manager
        assert info.unsubscribe(subscription, number)
        info.ws_manager = None

    def next(self, kind: str, wanted: Callable[[Any], bool] = lambda data: True) -> Any:
        """The data of the next message of the subscription *kind* that is *wanted*."""
        while True:
            data = self._heard[kind].get(timeout=PATIENCE_S)["data"]
            if wanted(data):
                return data

    def update(self, status: str, oid: int) -> Any:
        """The next update of `orderUpdates` which says that of that order."""
        while True:
            while self._updates:
                update = self._updates.pop(0)
                if (update["status"], update["order"]["oid"]) == (status, oid):
                    return update
            self._updates += self.next("orderUpdates")

    def close(self) -> None:
        self._manager.join(PATIENCE_S)
        assert not self._manager.is_alive()
        self._manager.stop()


@contextmanager
def serving(market: Callable[[], MarketSource], **options: Any) -> Iterator[Served]:
    """An exchange on a market, for signatures of the testnet: the SDK's for every other URL."""
    ready: Future[Served] = Future()
    scope = trio.CancelScope()
    run = partial(_serve, market, {"network": "testnet"} | options, ready, scope)
    thread = threading.Thread(target=_contained, args=(run, ready), name="embedded exchange")
    thread.start()
    served = ready.result(PATIENCE_S)
    try:
        yield served
    finally:
        served.close()
        served.call(scope.cancel)
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def _contained(run: Callable[[], Any], ready: Future[Served]) -> None:
    try:
        trio.run(run)
    except BaseException as error:
        if ready.done():
            raise
        ready.set_exception(error)


async def _serve(
    market: Callable[[], MarketSource],
    options: dict[str, Any],
    ready: Future[Served],
    scope: trio.CancelScope,
) -> None:
    clock = ShiftedClock()
    exchange = Exchange(clock, market(), **options)
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    with scope:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve_exchange, listeners, exchange))
            await nursery.start(partial(run_market, exchange, clock))
            ready.set_result(Served(exchange, clock, port, trio.lowlevel.current_trio_token()))
