"""The bus against a twin that resolves nothing: it matches every pattern at every event."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable
from typing import Any

from attrs import define, field, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from zq_daemon.core.bus import Fault, MessageBus, Subscription

TOPICS = ["a", "b", "a.a", "a.b", "b.b", "a.a.b", "a.b.b", "a.b.a.b"]
PATTERNS = [*TOPICS, "*", "*.*", "a.*", "b.*", "*.b", "a.*.b", "*.a.*", "a.*.*", "*.*.b", "*.*.*"]
topics = st.sampled_from(TOPICS)
patterns = st.sampled_from(PATTERNS)
listeners = st.integers(0, 7)


@frozen
class Publish:
    topic: str


@frozen
class Subscribe:
    pattern: str


@frozen
class Cancel:
    listener: int


@frozen
class Raise:
    pass


Step = Publish | Subscribe | Cancel | Raise
steps = st.one_of(
    topics.map(Publish), patterns.map(Subscribe), listeners.map(Cancel), st.just(Raise())
)


@frozen
class Told:
    """Subscription number *listener* was given *event*."""

    listener: int
    event: str


@define
class OracleListener:
    pattern: str
    cancelled: bool = False


@define
class Oracle:
    """What the bus promises, done the slow way.

    An event waits with the listeners that there were when it was published; each is asked again,
    when its turn comes, whether it is still there.
    """

    react: Callable[[int, Oracle], None]
    listeners: list[OracleListener] = field(factory=list)
    waiting: deque[tuple[str, int, str]] = field(factory=deque)
    told: list[Told | str] = field(factory=list)
    busy: bool = False
    published: int = 0

    def subscribe(self, pattern: str) -> None:
        self.listeners.append(OracleListener(pattern))

    def cancel(self, listener: int) -> None:
        if listener < len(self.listeners):
            self.listeners[listener].cancelled = True

    def publish(self, topic: str) -> None:
        self.published += 1
        self.waiting.append((topic, len(self.listeners), f"{topic}#{self.published}"))
        if self.busy:
            return
        self.busy = True
        while self.waiting:
            self._deliver(*self.waiting.popleft())
        self.busy = False

    def _deliver(self, topic: str, known: int, event: str) -> None:
        for number, listener in enumerate(self.listeners[:known]):
            if not listener.cancelled and _expression(listener.pattern).fullmatch(topic):
                self.told.append(Told(number, event))
                try:
                    self.react(number, self)
                except ValueError:
                    self.told.append(f"fault of {number} at {event}")


@define
class Subject:
    """The real bus behind the oracle's interface."""

    react: Callable[[int, Subject], None]
    subscriptions: list[Subscription] = field(factory=list)
    told: list[Told | str] = field(factory=list)
    published: int = 0
    bus: MessageBus = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.bus = MessageBus(self._on_fault)

    def subscribe(self, pattern: str) -> None:
        number = len(self.subscriptions)

        def handler(event: str) -> None:
            self.told.append(Told(number, event))
            self.react(number, self)

        self.subscriptions.append(self.bus.subscribe(pattern, handler, owner=str(number)))

    def cancel(self, listener: int) -> None:
        if listener < len(self.subscriptions):
            self.subscriptions[listener].cancel()

    def publish(self, topic: str) -> None:
        self.published += 1
        self.bus.publish(topic, f"{topic}#{self.published}")

    def _on_fault(self, fault: Fault) -> None:
        assert fault.event.partition("#")[0] == fault.topic
        self.told.append(f"fault of {fault.owner} at {fault.event}")


@settings(max_examples=100)
@given(
    at_first=st.lists(patterns, min_size=2, max_size=6),
    script=st.lists(steps, min_size=5, max_size=25),
    reactions=st.lists(st.lists(steps, max_size=4), min_size=3, max_size=12),
)
def test_the_bus_does_what_matching_at_every_publish_does(
    at_first: list[str], script: list[Step], reactions: list[list[Step]]
) -> None:
    oracle = Oracle(_reacting(reactions))
    subject = Subject(_reacting(reactions))
    for step in [*map(Subscribe, at_first), *script]:
        _outside(oracle, step)
        _outside(subject, step)
        assert subject.told == oracle.told
    told = [each for each in oracle.told if isinstance(each, Told)]
    assert subject.bus.deliveries == len(told)
    assert sum(subject.bus.counters().values()) == oracle.published
    assert subject.bus.faults == len(oracle.told) - len(told)


segments = st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=5)


@settings(max_examples=100)
@given(pattern=segments.map(".".join))
def test_the_oracle_and_the_bus_read_patterns_alike(pattern: str) -> None:
    bus = MessageBus(lambda fault: None)
    bus.subscribe(pattern, lambda event: None)
    for topic in TOPICS:
        assert bus.has_subscribers(topic) == bool(_expression(pattern).fullmatch(topic))


def _reacting(reactions: list[list[Step]]) -> Callable[[int, Any], None]:
    """Each call of a handler takes the next reaction; when they are used up it only listens."""
    left = deque(reactions)

    def react(listener: int, bus: Oracle | Subject) -> None:
        for step in left.popleft() if left else ():
            _do(bus, step)

    return react


def _outside(bus: Oracle | Subject, step: Step) -> None:
    if not isinstance(step, Raise):
        _do(bus, step)


def _do(bus: Oracle | Subject, step: Step) -> None:
    match step:
        case Publish(topic):
            bus.publish(topic)
        case Subscribe(pattern):
            bus.subscribe(pattern)
        case Cancel(listener):
            bus.cancel(listener)
        case Raise():
            raise ValueError("asked for")


def _expression(pattern: str) -> re.Pattern[str]:
    head, star, last = pattern.rpartition(".")
    last = ".+" if last == "*" else last
    return re.compile((head + star).replace(".", r"\.").replace("*", "[^.]+") + last)
