"""How many orders a second the embedded exchange takes: signed requests over one WebSocket.

Orders rest far from the market and are cancelled as soon as they are acknowledged. All requests are
signed beforehand, so many are under way at any time, and an answer with an error in it ends it all.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import count as counted
from typing import Any

import trio
from attrs import frozen
from eth_account import Account
from hyperliquid.exchange import Exchange as SdkExchange
from trio_websocket import WebSocketConnection, open_websocket_url

from benchmarks import values
from benchmarks.measure import Case, Scale, cpu_seconds, nanoseconds
from benchmarks.processes import Served, exchange_process
from benchmarks.report import Row, duration, times
from zq_daemon.venue.hyperliquid.sign import (
    AgentKey,
    action_hash,
    recover_signer,
    sign_l1_action,
)

BATCHES = (1, 40)
NEEDED = 200
_SECRET = b"\2" * 32
_LANES = 20
_HEAD = '{"method": "post", "id": '
_SDK_PART = 20
"""The SDK, which waits for each answer, is timed with one in so many."""


@frozen
class Taken:
    """*orders* took the exchange *cpu_s*, and *wall_s* by the clock."""

    orders: int
    wall_s: float
    cpu_s: float

    @property
    def rate(self) -> float:
        """Orders a second."""
        return self.orders / self.wall_s


def run(scale: Scale) -> Iterator[Row]:
    """A row for orders one by one, and one for as many as go into one request."""
    bare = nanoseconds({"bare": Case("recover()", {"recover": _recovery()})}, scale)["bare"]
    with exchange_process() as served:
        sdk = _sdk_rate(served, max(scale.exchange_orders // _SDK_PART, 2))
    for size in BATCHES:
        with exchange_process() as served:
            requests = list(signed_requests(max(scale.exchange_orders // size // 2, 1), size))
            taken = trio.run(_send_all, served, requests, size)
        cpu_ns = taken.cpu_s / taken.orders * 1e9
        yield Row(
            name=f"exchange: orders placed and cancelled, {size} a request, one WebSocket",
            figure=f"{taken.rate:,.0f} orders/s, its CPU an order {duration(cpu_ns)}",
            against=f"the official SDK, one after another {sdk:,.0f} orders/s "
            f"({times(taken.rate, sdk)}); a signature's signer alone {duration(bare)} a request",
            limit=f"{NEEDED} orders/s",
            holds=taken.rate > NEEDED,
        )


def signed_requests(pairs: int, size: int) -> Iterator[str]:
    """So many *pairs* of posts: *size* orders, then their cancels.

    They are signed as the SDK signs, for the test network: so an exchange reads what an address
    signs of which it never heard.
    """
    key, numbers, post_ids = AgentKey(_SECRET), counted(1), counted(1)
    first_nonce = time.time_ns() // 1_000_000
    for _ in range(pairs):
        cloids = [f"0x{next(numbers):032x}" for _ in range(size)]
        for action in (_placing(cloids), _cancelling(cloids)):
            post_id = next(post_ids)
            nonce = first_nonce + post_id
            signature = sign_l1_action(key, action_hash(action, nonce, None, None), "testnet")
            payload = {"action": action, "nonce": nonce, "signature": signature.to_wire()}
            request = {"type": "action", "payload": payload}
            yield f'{_HEAD}{post_id}, "request": {json.dumps(request)}}}'


def _placing(cloids: Sequence[str]) -> Mapping[str, Any]:
    orders = [
        {
            "a": 0,
            "b": True,
            "p": "50000",
            "s": "0.001",
            "r": False,
            "t": {"limit": {"tif": "Gtc"}},
            "c": cloid,
        }
        for cloid in cloids
    ]
    return {"type": "order", "orders": orders, "grouping": "na"}


def _cancelling(cloids: Sequence[str]) -> Mapping[str, Any]:
    cancels = [{"asset": 0, "cloid": cloid} for cloid in cloids]
    return {"type": "cancelByCloid", "cancels": cancels}


class _Lanes:
    """Pairs of requests under way; within a pair the second waits for the first one's answer."""

    def __init__(self, socket: WebSocketConnection, requests: Iterator[str]) -> None:
        self._socket = socket
        self._pairs = zip(requests, requests, strict=False)
        self._answered: dict[int, trio.Event] = {}

    async def run(self) -> None:
        """Send all, and return when the last is answered."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._receive)
            async with trio.open_nursery() as lanes:
                for _ in range(_LANES):
                    lanes.start_soon(self._lane)
            nursery.cancel_scope.cancel()

    async def _lane(self) -> None:
        for pair in self._pairs:
            for request in pair:
                answered = self._answered[_post_id(request)] = trio.Event()
                await self._socket.send_message(request)
                await answered.wait()

    async def _receive(self) -> None:
        while True:
            message = await self._socket.get_message()
            if '"channel":"post"' not in message:
                continue
            if "error" in message or '"err"' in message:
                raise RuntimeError(f"a request was refused: {message}")
            self._answered.pop(json.loads(message)["data"]["id"]).set()


async def _send_all(served: Served, requests: Sequence[str], size: int) -> Taken:
    async with open_websocket_url(f"ws://127.0.0.1:{served.port}/ws") as socket:
        used, began = cpu_seconds(served.pid), time.monotonic()
        await _Lanes(socket, iter(requests)).run()
        wall_s = time.monotonic() - began
        return Taken(len(requests) // 2 * size, wall_s, cpu_seconds(served.pid) - used)


def _post_id(request: str) -> int:
    return int(request[len(_HEAD) :].partition(",")[0])


def _sdk_rate(served: Served, orders: int) -> float:
    """The same by the SDK over HTTP: place, wait, cancel, wait."""
    sdk = SdkExchange(Account.from_key(_SECRET), served.url)
    with sdk.session, sdk.info.session:
        began = time.monotonic()
        for _ in range(orders):
            answer = sdk.order(values.COIN, True, 0.001, 50_000, {"limit": {"tif": "Gtc"}})
            (status,) = answer["response"]["data"]["statuses"]
            sdk.cancel(values.COIN, status["resting"]["oid"])
        return orders / (time.monotonic() - began)


def _recovery() -> Any:
    """What no exchange that checks signatures gets below, for each request."""
    key, digest = AgentKey(_SECRET), action_hash(_placing(["0x" + "1" * 32]), 1, None, None)
    signed = sign_l1_action(key, digest, "testnet")
    return lambda: recover_signer(digest, signed.r, signed.s, signed.v, "testnet")
