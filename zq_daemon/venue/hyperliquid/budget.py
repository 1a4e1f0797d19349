"""What Hyperliquid still takes from us: requests of this machine, and actions of this account.

Owns the count of what was sent and the order in which things go without: what ends orders or asks
what became of them goes first, modifications next, new orders last. It sends nothing; the adapter
asks before a query, order entry before an action, and both tell of every 429.

Limits, from the venue's documentation: 1200 of weight a minute and address (IP), where an action
with n orders weighs 1 + n // 40 and a query what `QUERY_WEIGHTS` says; 2000 WebSocket messages a
minute; and for each account 10,000 actions and one more for each USDC it ever traded, each order of
a batch counted. Beyond those one action in 10 s is taken, and cancels have a larger limit.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping, Sized
from typing import Any, Literal

import trio

from zq_daemon.ports.clock import NS_PER_MS, NS_PER_S, Clock
from zq_daemon.runtime.backoff import Backoff

Priority = Literal["cancel", "query", "modify", "submit"]
"""What a request is, the most urgent first; what is not about orders counts as `cancel`."""

QUERY_WEIGHTS: Mapping[str, int] = {
    "allMids": 2,
    "clearinghouseState": 2,
    "exchangeStatus": 2,
    "l2Book": 2,
    "orderStatus": 2,
    "spotClearinghouseState": 2,
    "userRole": 60,
}
"""What a query weighs, by its type."""
QUERY_WEIGHT = 20
"""What any other query weighs."""
ITEMS_PER_WEIGHT: Mapping[str, int] = {
    "candleSnapshot": 60,
    "fundingHistory": 20,
    "historicalOrders": 20,
    "recentTrades": 20,
    "userFills": 20,
    "userFillsByTime": 20,
    "userFunding": 20,
}
"""So many items in the answer weigh one more."""
ORDERS_PER_WEIGHT = 40
CANCEL_EXTRA = 100_000
"""An account may send so many more cancels than other actions, or twice as many if that is less."""
TRICKLE_NS = 10 * NS_PER_S
"""An account that has used up its actions may send one in this time."""

_WINDOW_S = 60
_RESERVED: Mapping[Priority, float] = {"cancel": 0, "query": 0.05, "modify": 0.1, "submit": 0.2}
"""What part of a limit is kept for what is more urgent, when it is asked before."""
_LAST: Mapping[Priority, float] = {"cancel": 0, "query": 0.05, "modify": 0.05, "submit": 0.05}
"""The same when the request is about to be sent."""
_ACTIONS_RESERVED: Mapping[Priority, float] = {"cancel": 0, "query": 0, "modify": 0, "submit": 0.01}
_USED_AND_CAP = re.compile(r"\((\d{1,18}) > (\d{1,18})\)")


class Window:
    """What was spent in the last minute, counted by the second; a *limit* of 0 is none."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._seconds: deque[tuple[int, int]] = deque()
        self._spent = 0

    def spent(self, now_ns: int) -> int:
        """What was spent in the minute before monotonic time *now_ns*."""
        second = now_ns // NS_PER_S
        while self._seconds and self._seconds[0][0] < second - _WINDOW_S:
            self._spent -= self._seconds.popleft()[1]
        return self._spent

    def spend(self, now_ns: int, cost: int) -> None:
        """*cost* is sent at *now_ns*."""
        self.spent(now_ns)
        second, before = now_ns // NS_PER_S, 0
        if self._seconds and self._seconds[-1][0] == second:
            before = self._seconds.pop()[1]
        self._seconds.append((second, before + cost))
        self._spent += cost

    def wait_ns(self, now_ns: int, cost: int, reserved: float = 0) -> int:
        """How long until *cost* may be spent and that part of the limit is left; 0: now."""
        kept = int(self.limit * reserved)
        missing = min(cost, self.limit - kept) + kept - (self.limit - self.spent(now_ns))
        if not self.limit or missing <= 0:
            return 0
        freed_after = 0
        for second, cost_then in self._seconds:
            freed_after, missing = second, missing - cost_then
            if missing <= 0:
                break
        return (freed_after + _WINDOW_S + 1) * NS_PER_S - now_ns


class RateBudget:
    """What is left for one machine and one account."""

    def __init__(
        self, *, clock: Clock, backoff: Backoff, weight_per_minute: int, messages_per_minute: int
    ) -> None:
        """*backoff* says for how long nothing is sent after a 429; limits of 0 are none."""
        self._clock = clock
        self._backoff = backoff
        self._weight = Window(weight_per_minute)
        self._messages = Window(messages_per_minute)
        self._used: int | None = None
        self._cap = 0
        self._last_action_ns = 0
        self._throttled_ns = self._cancels_held_ns = self._held_ns = 0
        self._throttled = 0

    def query_wait_ns(self, kind: str) -> int:
        """How long a query of type *kind* has to wait; 0: not at all."""
        now_ns = self._clock.monotonic_ns()
        wait_ns = self._weight.wait_ns(now_ns, _query_weight(kind), _LAST["query"])
        return max(wait_ns, self._held_ns - now_ns, 0)

    def spend_query(self, kind: str) -> None:
        """A query of type *kind* is about to be sent."""
        self._weight.spend(self._clock.monotonic_ns(), _query_weight(kind))

    def spend_answer(self, kind: str, answer: object) -> None:
        """What the *answer* to a query of type *kind* weighs by its length."""
        if kind in ITEMS_PER_WEIGHT and isinstance(answer, Sized):
            extra = len(answer) // ITEMS_PER_WEIGHT[kind]
            self._weight.spend(self._clock.monotonic_ns(), extra)

    def why_not_now(self, kind: Priority, count: int = 1) -> str | None:
        """Why *count* more orders had better not be sent about now; None: they may.

        Keeps a part of every limit for what is more urgent than *kind*.
        """
        now_ns = self._clock.monotonic_ns()
        held_ns = self._hold_ns(kind) - now_ns
        if held_ns > 0:
            return f"the venue refused requests as too many: waiting {held_ns / NS_PER_S:.1f} s"
        for window, what in ((self._weight, "weight"), (self._messages, "WebSocket messages")):
            if window.wait_ns(now_ns, _action_weight(count), _RESERVED[kind]):
                return f"{window.spent(now_ns)} of {window.limit} {what} were used in a minute"
        return self._why_no_action(kind, count, now_ns)

    def action_wait_ns(self, kind: Priority, count: int) -> int:
        """How long a request about *count* orders has to wait for this machine's limits; 0: now."""
        now_ns = self._clock.monotonic_ns()
        return max(
            self._weight.wait_ns(now_ns, _action_weight(count), _LAST[kind]),
            self._messages.wait_ns(now_ns, 1, _LAST[kind]),
            self._hold_ns(kind) - now_ns,
            0,
        )

    def spend_action(self, count: int, *, over_websocket: bool) -> None:
        """A request about *count* orders is about to be sent."""
        now_ns = self._last_action_ns = self._clock.monotonic_ns()
        self._weight.spend(now_ns, _action_weight(count))
        if over_websocket:
            self._messages.spend(now_ns, 1)
        if self._used is not None:
            self._used += count

    def learn(self, used: int, cap: int) -> None:
        """The account has sent *used* actions and may send *cap*, by the venue's own count."""
        self._used, self._cap = used, cap

    def exhaust(self, text: str) -> None:
        """The venue refused an action as the account has none left; *text* may tell the numbers."""
        told = _USED_AND_CAP.search(text)
        if told is not None:
            self.learn(int(told[1]), int(told[2]))
        elif self._used is not None:
            self._used = max(self._used, self._cap)

    def throttle(self) -> None:
        """The venue answered 429: nothing is sent for a while, cancels for half of it."""
        delay_ns = self._backoff.next_delay_ms() * NS_PER_MS
        self._throttled += 1
        self._throttled_ns = self._clock.monotonic_ns()
        self._cancels_held_ns = self._throttled_ns + delay_ns // 2
        self._held_ns = self._throttled_ns + delay_ns

    def recover(self, sent_ns: int) -> None:
        """The venue took a request that was sent at monotonic time *sent_ns*."""
        if self._throttled_ns < sent_ns and self._backoff.attempts:
            self._backoff.reset()
            self._held_ns = self._cancels_held_ns = 0

    def status(self) -> dict[str, Any]:
        """What `status` shows; limits that are not known or do not exist are None."""
        now_ns = self._clock.monotonic_ns()
        known = self._used is not None
        return {
            "weight_used": self._weight.spent(now_ns),
            "weight_limit": self._weight.limit or None,
            "messages_used": self._messages.spent(now_ns),
            "messages_limit": self._messages.limit or None,
            "actions_used": self._used,
            "actions_limit": self._cap if known else None,
            "cancels_limit": _cancel_cap(self._cap) if known else None,
            "refused": self._throttled,
            "waiting_s": round(max(self._held_ns - now_ns, 0) / NS_PER_S, 3),
        }

    def _hold_ns(self, kind: Priority) -> int:
        return self._cancels_held_ns if kind == "cancel" else self._held_ns

    def _why_no_action(self, kind: Priority, count: int, now_ns: int) -> str | None:
        if self._used is None:
            return None
        cap = _cancel_cap(self._cap) if kind == "cancel" else self._cap
        if cap - self._used - count >= int(cap * _ACTIONS_RESERVED[kind]):
            return None
        if count == 1 and now_ns - self._last_action_ns >= TRICKLE_NS:
            return None
        return (
            f"{self._used} of the account's {cap} actions are used: it gets one more for each USDC "
            "that it trades, and may send one in 10 s until then"
        )


async def sleep_ns(wait_ns: int) -> None:
    """Sleep for *wait_ns*, and up to a millisecond more than was meant: never less."""
    await trio.sleep((wait_ns // NS_PER_MS + 1) / 1000)


def _query_weight(kind: str) -> int:
    return QUERY_WEIGHTS.get(kind, QUERY_WEIGHT)


def _action_weight(count: int) -> int:
    return 1 + count // ORDERS_PER_WEIGHT


def _cancel_cap(cap: int) -> int:
    return min(cap + CANCEL_EXTRA, 2 * cap)
