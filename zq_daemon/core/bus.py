"""The message bus: synchronous and single-threaded; publish/subscribe, requests and commands.

Owns who hears what, in which order, and the counters. Never waits, never touches an event, never
decides what a fault means: `on_fault` does (the runtime's containment). Engines publish, strategies
subscribe, the execution engine takes the commands.

Topics are dotted (`market_data.trade.hyperliquid.BTC`). In a pattern a star stands for exactly one
segment, and a star that is the last segment for all (one or more) that remain. Patterns meet topics
when either of them first appears, so that a publish is one dictionary look-up.

Order of delivery: every subscriber of an event gets it, in the order of subscribing, before the
next event is delivered to anyone; what handlers publish meanwhile waits, first in, first out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any

from attrs import frozen

from zq_daemon.errors import BusError

Handler = Callable[[Any], Any]

_CONTAINED = (Exception, SystemExit, GeneratorExit)
"""What a handler raises and is blamed for: nobody but the daemon's owner ends the daemon.

An interrupt from the keyboard, and the cancellation of whoever publishes, pass through.
"""


@frozen(kw_only=True)
class Fault:
    """A handler of *owner* raised *error* while it was given *event* on *topic* (or command)."""

    owner: str
    topic: str
    event: Any
    error: BaseException


class Subscription:
    """One handler's interest in a pattern, until it is cancelled."""

    __slots__ = ("_bus", "cancelled", "handler", "number", "owner", "pattern", "segments")

    def __init__(
        self, bus: MessageBus, number: int, pattern: str, handler: Handler, owner: str
    ) -> None:
        self._bus = bus
        self.number = number
        self.pattern = pattern
        self.segments = _pattern_segments(pattern)
        self.handler = handler
        self.owner = owner
        self.cancelled = False

    def cancel(self) -> None:
        """Hear nothing more, not even an event that is just being delivered; may be repeated."""
        if not self.cancelled:
            self.cancelled = True
            self._bus._unsubscribe(self)

    def __repr__(self) -> str:
        return f"Subscription({self.pattern!r}, owner={self.owner!r})"


class Registration:
    """One handler's place at an endpoint or command, until it is cancelled."""

    __slots__ = ("_table", "handler", "name", "owner")

    def __init__(
        self, table: dict[str, Registration], name: str, handler: Handler, owner: str
    ) -> None:
        self._table = table
        self.name = name
        self.handler = handler
        self.owner = owner

    def cancel(self) -> None:
        """Free the name; may be repeated."""
        if self._table.get(self.name) is self:
            del self._table[self.name]


class _Route:
    """A topic that has appeared: who hears it and how many events it delivered.

    `handlers` runs parallel to `subscriptions`. It is a list so that a cancelled subscriber can be
    put out of a delivery under way: its place is taken by a handler that does nothing.
    """

    __slots__ = (
        "_callables",
        "_calls",
        "_delivered",
        "delivered",
        "handlers",
        "segments",
        "subscriptions",
        "topic",
    )

    def __init__(self, topic: str, segments: tuple[str, ...]) -> None:
        self.topic = topic
        self.segments = segments
        self.delivered = 0
        self._calls = 0
        self._delivered = 0
        self.handlers: list[Handler] = []
        self.resolve(())

    def resolve(self, subscriptions: Iterable[Subscription]) -> None:
        """Deliver to those of *subscriptions* that live; not while a delivery is under way."""
        self._calls = self.calls
        self._delivered = self.delivered
        self.subscriptions = tuple(each for each in subscriptions if not each.cancelled)
        self._callables = _traceable(self.subscriptions)
        self.handlers = list(self._callables)

    def silence(self, subscription: Subscription, silent: Handler) -> None:
        """Let *silent* stand in for *subscription* until the next `resolve`."""
        if subscription in self.subscriptions:
            self.handlers[self.subscriptions.index(subscription)] = silent

    def owner_of(self, handler: Handler) -> str:
        """Who subscribed *handler*, even when it was silenced while it ran."""
        return next(
            each.owner
            for each, known in zip(self.subscriptions, self._callables, strict=True)
            if known is handler
        )

    @property
    def calls(self) -> int:
        """How many handlers were called: kept per spell of equal subscribers, not per event."""
        return self._calls + (self.delivered - self._delivered) * len(self.handlers)


class MessageBus:
    """The bus; one for each daemon, used from one thread only."""

    __slots__ = (
        "_busy",
        "_cascade",
        "_commands",
        "_endpoints",
        "_exact",
        "_number",
        "_on_fault",
        "_queue_limit",
        "_routes",
        "_served",
        "_skipped",
        "_topic_limit",
        "_waiting",
        "_wildcards",
        "faults",
    )

    def __init__(
        self,
        on_fault: Callable[[Fault], None],
        *,
        queue_limit: int = 65_536,
        topic_limit: int = 65_536,
    ) -> None:
        """*on_fault* is told of every handler that raises, at once; it must not raise itself.

        *queue_limit* bounds how many events may follow from one publish. The subscriber being
        served when that many have is reported as at fault (once for each such publish), so that
        containment can stop it; at twice the limit `publish` raises BusError to whoever publishes.
        *topic_limit* bounds the topics the bus remembers; a publish on one more raises BusError.
        """
        self._on_fault = on_fault
        self._queue_limit = queue_limit
        self._topic_limit = topic_limit
        self._routes: dict[str, _Route] = {}
        self._exact: dict[str, list[Subscription]] = {}
        self._wildcards: list[Subscription] = []
        self._number = 0
        self._endpoints: dict[str, Registration] = {}
        self._commands: dict[str, Registration] = {}
        self._busy = False
        self._waiting: deque[tuple[_Route, Any] | Subscription] = deque()
        self._cascade = 0
        self._served: Subscription | None = None
        self._skipped = 0
        self.faults = 0

    def subscribe(
        self, pattern: str, handler: Callable[[Any], None], *, owner: str = ""
    ) -> Subscription:
        """Call *handler* with every event on a topic that *pattern* matches; BusError if malformed.

        It hears what is published after it subscribed: made inside a handler, neither the event
        being delivered nor those already waiting. One handler may be subscribed more than once.
        """
        self._number += 1
        made = Subscription(self, self._number, pattern, handler, owner)
        if "*" in made.segments:
            self._wildcards.append(made)
        else:
            self._exact.setdefault(pattern, []).append(made)
        self._refresh_in_turn(made)
        return made

    def publish(self, topic: str, event: Any) -> None:
        """Give *event* to every subscriber of *topic*; inside a handler: after the current event.

        Raises BusError for a malformed or one too many topic, or when one publish has led to twice
        `queue_limit` others.
        """
        try:
            route = self._routes[topic]
        except KeyError:
            route = self._appear(topic)
        if self._busy:
            self._defer(route, event)
            return
        # Kept flat and free of further look-ups: every message of every feed passes here.
        self._busy = True
        route.delivered += 1
        try:
            for handler in route.handlers:
                try:
                    handler(event)
                except _CONTAINED as error:
                    self._report(route.owner_of(handler), topic, event, error)
            if self._waiting:
                self._deliver_waiting()
        except BaseException:
            self._abandon_waiting()
            raise
        self._busy = False

    def has_subscribers(self, topic: str) -> bool:
        """Whether a publish on *topic* would reach anybody; BusError if it is malformed."""
        route = self._routes.get(topic) or self._appear(topic)
        return bool(route.subscriptions)

    def counters(self) -> Mapping[str, int]:
        """How many events each topic delivered; one that waits counts when its turn has come."""
        return {route.topic: route.delivered for route in self._routes.values() if route.delivered}

    @property
    def deliveries(self) -> int:
        """How often a handler was given an event, all topics together."""
        return sum(route.calls for route in self._routes.values()) - self._skipped

    def register(
        self, endpoint: str, handler: Callable[[Any], Any], *, owner: str = ""
    ) -> Registration:
        """Let *handler* answer requests to *endpoint*; BusError if somebody already does."""
        return _claim(self._endpoints, "endpoint", endpoint, handler, owner)

    def request(self, endpoint: str, message: Any) -> Any:
        """The answer of *endpoint*, or what its handler raises; BusError if it is unknown."""
        return _look_up(self._endpoints, "endpoint", endpoint).handler(message)

    def handle(
        self, command: str, handler: Callable[[Any], None], *, owner: str = ""
    ) -> Registration:
        """Let *handler* carry out *command*; BusError if somebody already does."""
        return _claim(self._commands, "command", command, handler, owner)

    def send(self, command: str, message: Any) -> None:
        """Have *command* carried out now; BusError if it is unknown.

        What its handler raises is reported as the handler's fault and does not reach the sender.
        """
        registration = _look_up(self._commands, "command", command)
        try:
            registration.handler(message)
        except _CONTAINED as error:
            self._report(registration.owner, command, message, error)

    def _defer(self, route: _Route, event: Any) -> None:
        self._cascade += 1
        if self._cascade == self._queue_limit + 1 and self._served is not None:
            self._report(self._served.owner, route.topic, event, self._runaway(route.topic))
        if self._cascade > 2 * self._queue_limit:
            raise self._runaway(route.topic)
        self._waiting.append((route, event))

    def _runaway(self, topic: str) -> BusError:
        return BusError(
            f"topic {topic!r}: {self._cascade} events followed from one publish (queue limit "
            f"{self._queue_limit}): do handlers answer each other's events for ever?"
        )

    def _deliver_waiting(self) -> None:
        waiting = self._waiting
        while waiting:
            match waiting.popleft():
                case Subscription() as changed:
                    self._refresh(changed)
                case route, event:
                    self._deliver(route, event)
        self._cascade = 0
        self._served = None

    def _deliver(self, route: _Route, event: Any) -> None:
        route.delivered += 1
        for subscription, handler in zip(route.subscriptions, route.handlers, strict=True):
            self._served = subscription
            try:
                handler(event)
            except _CONTAINED as error:
                self._report(subscription.owner, route.topic, event, error)

    def _abandon_waiting(self) -> None:
        """What is not contained (an interrupt) passes through: leave nothing half done."""
        for changed in self._waiting:
            if isinstance(changed, Subscription):
                self._refresh(changed)
        self._waiting.clear()
        self._cascade = 0
        self._served = None
        self._busy = False

    def _report(self, owner: str, topic: str, event: Any, error: BaseException) -> None:
        self.faults += 1
        self._on_fault(Fault(owner=owner, topic=topic, event=event, error=error))

    def _appear(self, topic: str) -> _Route:
        segments = _topic_segments(topic)
        if len(self._routes) >= self._topic_limit:
            raise BusError(
                f"topic {topic!r}: already {self._topic_limit} topics; is a part of it unbounded?"
            ) from None
        found = [each for each in self._wildcards if _matches(each.segments, segments)]
        found += self._exact.get(topic, ())
        route = self._routes[topic] = _Route(topic, segments)
        route.resolve(sorted(found, key=attrgetter("number")))
        return route

    def _unsubscribe(self, subscription: Subscription) -> None:
        if "*" in subscription.segments:
            self._wildcards.remove(subscription)
        else:
            self._forget_exact(subscription)
        if self._busy:
            for route in self._routes_of(subscription):
                route.silence(subscription, self._skip)
        self._refresh_in_turn(subscription)

    def _forget_exact(self, subscription: Subscription) -> None:
        remaining = self._exact[subscription.pattern]
        remaining.remove(subscription)
        if not remaining:
            del self._exact[subscription.pattern]

    def _refresh_in_turn(self, subscription: Subscription) -> None:
        """Routes must not change under a delivery, nor for the events that wait already."""
        if self._busy:
            self._waiting.append(subscription)
        else:
            self._refresh(subscription)

    def _refresh(self, subscription: Subscription) -> None:
        for route in self._routes_of(subscription):
            known = subscription in route.subscriptions
            route.resolve((*route.subscriptions, *(() if known else (subscription,))))

    def _routes_of(self, subscription: Subscription) -> Iterable[_Route]:
        pattern = subscription.segments
        if "*" in pattern:
            return [each for each in self._routes.values() if _matches(pattern, each.segments)]
        route = self._routes.get(subscription.pattern)
        return () if route is None else (route,)

    def _skip(self, event: Any) -> None:
        self._skipped += 1


def _traceable(subscriptions: Sequence[Subscription]) -> Sequence[Handler]:
    """Their handlers, as objects that each tell one owner: one may be shared by several."""
    handlers = [each.handler for each in subscriptions]
    owned = {(id(each.handler), each.owner) for each in subscriptions}
    if len(owned) == len({id(handler) for handler in handlers}):
        return handlers
    return [partial(handler) for handler in handlers]


def _claim(
    table: dict[str, Registration], kind: str, name: str, handler: Handler, owner: str
) -> Registration:
    _topic_segments(name)
    taken = table.get(name)
    if taken is not None:
        raise BusError(f"{kind} {name!r} is already registered by {taken.owner or 'somebody'}")
    made = table[name] = Registration(table, name, handler, owner)
    return made


def _look_up(table: dict[str, Registration], kind: str, name: str) -> Registration:
    try:
        return table[name]
    except KeyError:
        known = ", ".join(sorted(table)) or "none"
        raise BusError(f"unknown {kind} {name!r}; registered: {known}") from None


def _topic_segments(topic: str) -> tuple[str, ...]:
    segments = tuple(topic.split("."))
    if not all(segments):
        raise BusError(f"topic {topic!r}: a segment is empty") from None
    if "*" in topic:
        raise BusError(
            f"topic {topic!r}: a star belongs in a pattern; escape it in a name"
        ) from None
    return segments


def _pattern_segments(pattern: str) -> tuple[str, ...]:
    segments = tuple(pattern.split("."))
    for segment in segments:
        if not segment:
            raise BusError(f"pattern {pattern!r}: a segment is empty")
        if "*" in segment and segment != "*":
            raise BusError(f"pattern {pattern!r}: a star stands alone in its segment")
    return segments


def _matches(pattern: tuple[str, ...], topic: tuple[str, ...]) -> bool:
    if pattern[-1] == "*":
        if len(topic) < len(pattern):
            return False
    elif len(topic) != len(pattern):
        return False
    return all(part in ("*", segment) for part, segment in zip(pattern, topic, strict=False))
