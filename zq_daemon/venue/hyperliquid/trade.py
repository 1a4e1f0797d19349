"""Order entry at Hyperliquid: signed actions, and what the venue answers to each.

Owns the nonces of one signer and the way an action takes: the WebSocket's `post` while there is a
private connection, HTTP else, or always where that is configured. It never sends twice and never
guesses: what was written and not answered is ambiguous. Every action expires.
The execution engine prepares and sends; the endpoint task attaches connections and brings answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

import trio

from zq_daemon.config.schema import HyperliquidConfig
from zq_daemon.model.ids import InstrumentId, is_external
from zq_daemon.model.order import Order
from zq_daemon.ports.clock import NS_PER_MS, NS_PER_S, Clock
from zq_daemon.venue.hyperliquid import action, wire
from zq_daemon.venue.hyperliquid.action import Action, order_number, order_terms
from zq_daemon.venue.hyperliquid.budget import Priority, RateBudget, sleep_ns
from zq_daemon.venue.hyperliquid.outcome import RefusalCode, outcomes
from zq_daemon.venue.hyperliquid.posts import Answer, HttpPosts, WebSocketPosts
from zq_daemon.venue.hyperliquid.sign import AgentKey, action_hash, sign_l1_action
from zq_daemon.venue.interface import (
    Modification,
    NotSent,
    Outcome,
    Refused,
    Reply,
    Request,
    RequestKind,
    Sender,
)

NONCE_AHEAD_MS = 86_400_000
"""The venue takes no nonce that is further ahead of its clock."""
SCHEDULE_AHEAD_MS = 5_000
"""The venue cancels no earlier than so long after it is told to."""

_PRIORITIES: dict[str, Priority] = {"submit": "submit", "modify": "modify"}


class HyperliquidOrderEntry:
    """Order entry for one account and one signer; see `venue.interface.OrderEntry`."""

    def __init__(
        self,
        *,
        config: HyperliquidConfig,
        clock: Clock,
        key: AgentKey,
        asset_of: Callable[[InstrumentId], int],
        budget: RateBudget,
        http: HttpPosts | None,
    ) -> None:
        """*asset_of* gives the venue's number of an instrument; KeyError for one it has not.

        Without *http* there is no way but the private connection.
        """
        self._network = config.network
        self._validity_ms = config.order_validity_ms
        self._clock = clock
        self._key = key
        self._asset_of = asset_of
        self._budget = budget
        self._last_nonce = 0
        self._posts = WebSocketPosts(config.post_timeout_ms / 1000)
        self._http = http
        self._turn = trio.Lock()
        self._prefers_http = config.order_entry == "http"
        self.vault_address: str | None = None
        """The sub-account or vault that owns the orders; None: the signer's own master account."""

    @property
    def pending(self) -> int:
        """How many posts wait for an answer."""
        return self._posts.pending

    @property
    def has_other_way(self) -> bool:
        """By HTTP, if there is that."""
        return self._http is not None

    def resume(self, last_nonce: int) -> None:
        """Go on above *last_nonce*; ValueError when the venue would take nothing above it."""
        ahead_ms = last_nonce + 1 - self._clock.now_ns() // NS_PER_MS
        if ahead_ms >= NONCE_AHEAD_MS:
            raise ValueError(
                f"nonce {last_nonce} was used, which is {ahead_ms / 3_600_000:.1f} h ahead of "
                "this machine's clock, and the venue takes at most 24 h: set the clock right, or "
                "trade with another agent key"
            )
        self._last_nonce = max(self._last_nonce, last_nonce)

    def prepare_submit(
        self, orders: Sequence[Order], *, protects_position: bool = False
    ) -> Request:
        """Sign one `order` action; ValueError for an order that cannot be written."""
        grouping = action.grouping(orders, protects_position=protects_position)
        wired = [self._terms(order, order.price, order.quantity) for order in orders]
        return self._signed("submit", orders, action.submission(wired, grouping))

    def prepare_cancel(self, orders: Sequence[Order]) -> Request:
        """Sign one `cancelByCloid` action, or for external orders one `cancel` by order id."""
        external = {is_external(order.client_order_id) for order in orders}
        if external == {True, False}:
            raise ValueError("one request cancels external orders or others, not both")
        make = action.cancellation_by_number if True in external else action.cancellation
        named = [(self._asset(order.instrument_id), order) for order in orders]
        return self._signed("cancel", orders, make(named))

    def prepare_modify(self, changes: Sequence[Modification]) -> Request:
        """Sign one `batchModify`, which replaces what rests of each order under the same cloid.

        The venue is told what shall rest from now on: the order's new total quantity less what is
        already filled. ValueError when nothing would be left.
        """
        wired = [self._change(each) for each in changes]
        orders = [each.order for each in changes]
        return self._signed("modify", orders, action.modification(wired))

    def prepare_schedule_cancel(self, at_ns: int | None) -> Request:
        """Sign one `scheduleCancel`; the venue carries it out ten times a day at most."""
        at_ms = None if at_ns is None else at_ns // NS_PER_MS
        if at_ms is not None and at_ms < self._clock.now_ns() // NS_PER_MS + SCHEDULE_AHEAD_MS:
            raise ValueError(f"a scheduled cancel is at least {SCHEDULE_AHEAD_MS} ms ahead")
        return self._signed("schedule_cancel", (), action.scheduled_cancel(at_ms))

    def prepare_leverage(
        self, instrument_id: InstrumentId, leverage: int, *, is_cross: bool
    ) -> Request:
        """Sign one `updateLeverage`."""
        if leverage < 1:
            raise ValueError(f"leverage {leverage}: at least 1")
        asset = self._asset(instrument_id)
        changed = action.leverage_update(asset, leverage, is_cross=is_cross)
        return self._signed("leverage", (), changed)

    def why_not_now(self, kind: RequestKind, count: int = 1) -> str | None:
        """By the budget of this machine and of the account."""
        return self._budget.why_not_now(kind, count)

    async def send(self, request: Request) -> Sequence[Outcome]:
        """Send *request* and wait for its answer: one outcome an order."""
        held_back = await self._admit(request)
        if held_back is not None:
            return [held_back] * _count(request)
        sent_ns = self._clock.monotonic_ns()
        answer = await self._post(request)
        if isinstance(answer, wire.PostResponse):
            found = outcomes(request, answer)
            self._take_note(answer, found, sent_ns)
            return found
        return [answer] * _count(request)

    def attach(self, sender: Sender) -> None:
        """Requests go over *sender* from now on."""
        self._posts.attach(sender)

    def detach(self, sender: Sender) -> None:
        """What waits for an answer on *sender* gets none."""
        self._posts.detach(sender)

    def resolve(self, reply: Reply) -> None:
        """Hand an answer to its request; one that nobody waits for any more is dropped."""
        self._posts.resolve(reply)

    async def _admit(self, request: Request) -> NotSent | None:
        """Why *request* may not be sent; what is no new order waits until it may."""
        wait_ns = self._room_in_ns(request)
        if wait_ns and request.kind not in _PRIORITIES:
            wait_ns = await self._wait_for_room(request)
        if wait_ns:
            return NotSent(detail=f"rate limit: none free for {wait_ns / NS_PER_S:.1f} s")
        return NotSent(detail="expired before it was sent") if self._lapses(request, 0) else None

    async def _wait_for_room(self, request: Request) -> int:
        """Wait, in the order of arrival; how much longer it would take if that is too long."""
        async with self._turn:
            wait_ns = self._room_in_ns(request)
            if self._lapses(request, wait_ns):
                return wait_ns
            await sleep_ns(wait_ns)
            return self._room_in_ns(request)

    def _room_in_ns(self, request: Request) -> int:
        priority = _PRIORITIES.get(request.kind, "cancel")
        return self._budget.action_wait_ns(priority, _count(request))

    def _lapses(self, request: Request, wait_ns: int) -> bool:
        expires_ns = request.expires_ns
        return expires_ns is not None and self._clock.now_ns() + wait_ns >= expires_ns

    async def _post(self, request: Request) -> Answer:
        by_websocket = self._posts.is_up and not self._prefers_http
        if self._http is None or by_websocket:
            self._budget.spend_action(_count(request), over_websocket=True)
            return await self._posts.post(request.payload)
        self._budget.spend_action(_count(request), over_websocket=False)
        return await self._http.post(request.payload)

    def _take_note(self, answer: wire.PostResponse, found: Sequence[Outcome], sent_ns: int) -> None:
        """What the answer says of the venue's limits: of this machine's, or of the account's."""
        limited = [
            each.text
            for each in found
            if isinstance(each, Refused) and each.code == RefusalCode.RATE_LIMIT
        ]
        if not limited:
            self._budget.recover(sent_ns)
        elif answer.kind == "error":
            self._budget.throttle()
        else:
            self._budget.exhaust(limited[0])

    def _signed(self, kind: str, orders: Sequence[Order], made: Action) -> Request:
        now_ms = self._clock.now_ns() // NS_PER_MS
        nonce = self._last_nonce = max(now_ms, self._last_nonce + 1)
        expires_ms = now_ms + self._validity_ms
        connection_id = action_hash(made, nonce, self.vault_address, expires_ms)
        payload = {
            "action": made,
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

    def _change(self, change: Modification) -> tuple[int | str, action.Wire]:
        order = change.order
        external = is_external(order.client_order_id)
        named = order_number(order) if external else order.client_order_id
        return named, self._terms(order, change.price, change.quantity - order.filled_quantity)

    def _terms(self, order: Order, price: Decimal | None, quantity: Decimal) -> action.Wire:
        return order_terms(order, self._asset(order.instrument_id), price, quantity)

    def _asset(self, instrument_id: InstrumentId) -> int:
        try:
            return self._asset_of(instrument_id)
        except KeyError:
            raise ValueError(f"instrument {instrument_id}: not known at the venue") from None


def _count(request: Request) -> int:
    """How many outcomes a request has: one for each order, and one if it is about none."""
    return max(len(request.client_order_ids), 1)
