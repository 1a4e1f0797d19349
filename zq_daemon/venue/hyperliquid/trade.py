"""Order entry at Hyperliquid: signed actions over the WebSocket's `post`, and their answers.

Owns the nonces of one signer and the table of requests that wait for an answer. It never sends
twice and never guesses: what was written and not answered is ambiguous. Every action expires.
The execution engine prepares and sends; the endpoint task attaches connections and brings answers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import trio
from attrs import define

from zq_daemon.config.schema import HyperliquidConfig
from zq_daemon.errors import LinkError
from zq_daemon.model.ids import InstrumentId
from zq_daemon.model.order import Order, OrderType, TimeInForce
from zq_daemon.ports.clock import NS_PER_MS, Clock
from zq_daemon.venue.hyperliquid import wire
from zq_daemon.venue.hyperliquid.outcome import outcomes
from zq_daemon.venue.hyperliquid.sign import AgentKey, action_hash, sign_l1_action
from zq_daemon.venue.interface import Ambiguous, NotSent, Outcome, Reply, Request, Sender

MAX_PENDING = 100
"""The venue takes this many unanswered posts from one address."""


@define
class _Waiting:
    sender: Sender
    answered: trio.Event
    answer: wire.PostResponse | str | None = None

    def settle(self, answer: wire.PostResponse | str) -> None:
        """The first answer counts; a text says why there will be none."""
        if self.answer is None:
            self.answer = answer
            self.answered.set()


class HyperliquidOrderEntry:
    """Order entry for one account and one signer; see `venue.interface.OrderEntry`."""

    def __init__(
        self,
        *,
        config: HyperliquidConfig,
        clock: Clock,
        key: AgentKey,
        asset_of: Callable[[InstrumentId], int],
    ) -> None:
        """*asset_of* gives the venue's number of an instrument; KeyError for one it has not."""
        self._network = config.network
        self._validity_ms = config.order_validity_ms
        self._timeout_s = config.post_timeout_ms / 1000
        self._clock = clock
        self._key = key
        self._asset_of = asset_of
        self._last_nonce = 0
        self._last_post_id = 0
        self._sender: Sender | None = None
        self._pending: dict[int, _Waiting] = {}
        self.vault_address: str | None = None
        """The sub-account or vault that owns the orders; None: the signer's own master account."""

    @property
    def pending(self) -> int:
        """How many requests wait for an answer."""
        return len(self._pending)

    def prepare_submit(self, orders: Sequence[Order]) -> Request:
        """Sign one `order` action; ValueError for an order that cannot be written."""
        wired = [self._order(order, order.price, order.quantity) for order in orders]
        return self._signed("submit", orders, {"type": "order", "orders": wired, "grouping": "na"})

    def prepare_cancel(self, orders: Sequence[Order]) -> Request:
        """Sign one `cancelByCloid` action."""
        cancels = [
            {"asset": self._asset(order.instrument_id), "cloid": order.client_order_id}
            for order in orders
        ]
        return self._signed("cancel", orders, {"type": "cancelByCloid", "cancels": cancels})

    def prepare_modify(self, order: Order, price: Decimal, quantity: Decimal) -> Request:
        """Sign one `batchModify`, which replaces what rests of *order* under the same cloid.

        The venue is told what shall rest from now on: *quantity*, the order's new total, less
        what is already filled. ValueError when nothing would be left.
        """
        wired = self._order(order, price, quantity - order.filled_quantity)
        modifies = [{"oid": order.client_order_id, "order": wired}]
        return self._signed("modify", [order], {"type": "batchModify", "modifies": modifies})

    async def send(self, request: Request) -> Sequence[Outcome]:
        """Post *request* and wait for its answer: one outcome an order."""
        count = len(request.client_order_ids)
        sender = self._sender
        if sender is None:
            return [NotSent(detail="no private connection")] * count
        if len(self._pending) >= MAX_PENDING:
            return [NotSent(detail=f"{MAX_PENDING} requests are unanswered")] * count
        if request.expires_ns is not None and self._clock.now_ns() >= request.expires_ns:
            return [NotSent(detail="expired before it was sent")] * count
        answer = await self._post(sender, request)
        if isinstance(answer, str):
            return [Ambiguous(detail=answer)] * count
        return outcomes(request, answer)

    def attach(self, sender: Sender) -> None:
        """Requests go over *sender* from now on."""
        self._sender = sender

    def detach(self, sender: Sender) -> None:
        """What waits for an answer on *sender* gets none."""
        if self._sender is sender:
            self._sender = None
        for waiting in self._pending.values():
            if waiting.sender is sender:
                waiting.settle("connection lost before the answer")

    def resolve(self, reply: Reply) -> None:
        """Hand an answer to its request; one that nobody waits for any more is dropped."""
        waiting = self._pending.get(reply.post_id)
        if waiting is not None:
            waiting.settle(reply.body)

    async def _post(self, sender: Sender, request: Request) -> wire.PostResponse | str:
        self._last_post_id += 1
        post_id = self._last_post_id
        waiting = self._pending[post_id] = _Waiting(sender, trio.Event())
        message = b'{"method":"post","id":%d,"request":{"type":"action","payload":%b}}'
        try:
            with trio.move_on_after(self._timeout_s):
                await sender.send((message % (post_id, request.payload)).decode())
                await waiting.answered.wait()
        except LinkError as error:
            waiting.settle(f"connection lost while sending: {error}")
        finally:
            del self._pending[post_id]
        return waiting.answer or f"no answer within {self._timeout_s:g} s"

    def _signed(self, kind: str, orders: Sequence[Order], action: Mapping[str, Any]) -> Request:
        now_ms = self._clock.now_ns() // NS_PER_MS
        nonce = self._last_nonce = max(now_ms, self._last_nonce + 1)
        expires_ms = now_ms + self._validity_ms
        connection_id = action_hash(action, nonce, self.vault_address, expires_ms)
        payload = {
            "action": action,
            "nonce": nonce,
            "signature": sign_l1_action(self._key, connection_id, self._network).to_wire(),
            "vaultAddress": self.vault_address,
            "expiresAfter": expires_ms,
        }
        return Request(
            kind=kind,
            client_order_ids=tuple(order.client_order_id for order in orders),
            nonce=nonce,
            expires_ns=expires_ms * NS_PER_MS,
            action_hash=connection_id,
            payload=wire.encode(payload),
        )

    def _order(self, order: Order, price: Decimal | None, quantity: Decimal) -> dict[str, Any]:
        if price is None:
            raise ValueError(f"order {order.client_order_id}: has no price")
        return {
            "a": self._asset(order.instrument_id),
            "b": order.side.sign > 0,
            "p": wire_number(price),
            "s": wire_number(quantity),
            "r": order.reduce_only,
            "t": {"limit": {"tif": _time_in_force(order)}},
            "c": order.client_order_id,
        }

    def _asset(self, instrument_id: InstrumentId) -> int:
        try:
            return self._asset_of(instrument_id)
        except KeyError:
            raise ValueError(f"instrument {instrument_id}: not known at the venue") from None


def wire_number(value: Decimal) -> str:
    """A price or size as it is hashed: plain digits, no trailing zeros; ValueError unless > 0."""
    if not (value.is_finite() and value > 0):
        raise ValueError(f"{value} is not a price or size")
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _time_in_force(order: Order) -> str:
    immediate = order.order_type is OrderType.MARKET or order.time_in_force is TimeInForce.IOC
    if immediate and order.post_only:
        raise ValueError(f"order {order.client_order_id}: post-only and immediate exclude another")
    if immediate:
        return "Ioc"
    return "Alo" if order.post_only else "Gtc"
