"""How a signed action reaches Hyperliquid: the WebSocket's `post`, or HTTP's `/exchange`.

Owns the table of posts that wait for an answer. Both ways tell the same three things: the venue's
answer, certainly not sent, or unknown; neither sends anything twice. Order entry chooses the way.
"""

from __future__ import annotations

import msgspec
import trio
from attrs import define

from zq_daemon.errors import LinkError, NeverSentError
from zq_daemon.ports.http import HttpClient
from zq_daemon.venue.hyperliquid import wire
from zq_daemon.venue.interface import Ambiguous, NotSent, Reply, Sender

MAX_PENDING = 100
"""The venue takes this many unanswered posts from one address."""
_PATH = "/exchange"
_TEXT_CHARS = 300

Answer = wire.PostResponse | NotSent | Ambiguous


@define
class _Waiting:
    sender: Sender
    answered: trio.Event
    answer: wire.PostResponse | Ambiguous | None = None

    def settle(self, answer: wire.PostResponse | Ambiguous) -> None:
        """The first answer counts."""
        if self.answer is None:
            self.answer = answer
            self.answered.set()


class WebSocketPosts:
    """Posts over the newest private connection."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._last_id = 0
        self._sender: Sender | None = None
        self._pending: dict[int, _Waiting] = {}

    @property
    def is_up(self) -> bool:
        """Whether there is a connection."""
        return self._sender is not None

    @property
    def pending(self) -> int:
        """How many posts wait for an answer."""
        return len(self._pending)

    def attach(self, sender: Sender) -> None:
        """Posts go over *sender* from now on."""
        self._sender = sender

    def detach(self, sender: Sender) -> None:
        """What waits for an answer on *sender* gets none."""
        if self._sender is sender:
            self._sender = None
        for waiting in self._pending.values():
            if waiting.sender is sender:
                waiting.settle(Ambiguous(detail="connection lost before the answer"))

    def resolve(self, reply: Reply) -> None:
        """Hand an answer to its post; one that nobody waits for any more is dropped."""
        waiting = self._pending.get(reply.post_id)
        if waiting is not None:
            waiting.settle(reply.body)

    async def post(self, payload: bytes) -> Answer:
        """Send *payload*, and wait for its answer."""
        sender = self._sender
        if sender is None:
            return NotSent(detail="no private connection")
        if len(self._pending) >= MAX_PENDING:
            return NotSent(detail=f"{MAX_PENDING} requests are unanswered")
        self._last_id += 1
        post_id = self._last_id
        waiting = self._pending[post_id] = _Waiting(sender, trio.Event())
        message = b'{"method":"post","id":%d,"request":{"type":"action","payload":%b}}'
        try:
            with trio.move_on_after(self._timeout_s):
                await sender.send((message % (post_id, payload)).decode())
                await waiting.answered.wait()
        except LinkError as error:
            waiting.settle(Ambiguous(detail=f"connection lost while sending: {error}"))
        finally:
            del self._pending[post_id]
        return waiting.answer or Ambiguous(detail=f"no answer within {self._timeout_s:g} s")


class HttpPosts:
    """Posts over HTTP; the client's time-out bounds each."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    async def post(self, payload: bytes) -> Answer:
        """Send *payload*, and wait for its answer."""
        try:
            reply = await self._http.post_json(_PATH, msgspec.Raw(payload))
        except NeverSentError as error:
            return NotSent(detail=str(error))
        except LinkError as error:
            return Ambiguous(detail=str(error))
        if reply.status == 200:
            return wire.PostResponse(kind="action", payload=msgspec.Raw(reply.content))
        # The same words as an answer of type `error` has over the WebSocket.
        text = f"{reply.status} {reply.content[:_TEXT_CHARS].decode(errors='replace')}"
        return wire.PostResponse(kind="error", payload=msgspec.Raw(wire.encode(text)))
