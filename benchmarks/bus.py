"""The message bus: a publish to one and to ten handlers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import values
from benchmarks.measure import Case, Scale, nanoseconds
from benchmarks.report import Row, compared, duration
from zq_daemon.core import topics
from zq_daemon.core.bus import Fault, MessageBus

Handler = Callable[[Any], None]


class NaiveBus:
    """The alternative: every publish looks through all subscriptions for those that match."""

    def __init__(self) -> None:
        self._subscriptions: list[tuple[list[str], Handler]] = []

    def subscribe(self, pattern: str, handler: Handler) -> None:
        """As the bus's."""
        self._subscriptions.append((pattern.split("."), handler))

    def publish(self, topic: str, event: Any) -> None:
        """As the bus's."""
        segments = topic.split(".")
        for pattern, handler in self._subscriptions:
            if _matches(pattern, segments):
                handler(event)


class DictionaryBus:
    """The floor: exact topics only, no wildcards, no containment, no order of delivery."""

    def __init__(self) -> None:
        self._handlers: dict[str, list[Handler]] = {}

    def subscribe(self, pattern: str, handler: Handler) -> None:
        """As the bus's, without stars."""
        self._handlers.setdefault(pattern, []).append(handler)

    def publish(self, topic: str, event: Any) -> None:
        """As the bus's."""
        for handler in self._handlers[topic]:
            handler(event)


def run(scale: Scale) -> Iterator[Row]:
    """One row for 1 handler, one for 10."""
    for count in (1, 10):
        cases = publishing(count)
        taken = nanoseconds(cases, scale)
        own = taken["bus"]
        yield Row(
            name=f"bus: publish to {count} handler{'s'[: count - 1]}",
            figure=duration(own),
            against="; ".join(compared(name, taken[name], own) for name in cases if name != "bus"),
        )


def publishing(count: int) -> dict[str, Case]:
    """A publish on a trade's topic that *count* handlers hear, half of them by a wildcard."""
    topic = topics.trade(values.BTC)
    bus, naive, floor = MessageBus(_raise), NaiveBus(), DictionaryBus()
    for number in range(count):
        heard = handler()
        pattern = "market_data.*" if number % 2 else topic
        bus.subscribe(pattern, heard)
        naive.subscribe(pattern, heard)
        floor.subscribe(topic, heard)
    made = {"bus": bus, "matching at each publish": naive, "bare dictionary": floor}
    return {name: Case("publish(topic, event)", _names(each, topic)) for name, each in made.items()}


def _names(bus: Any, topic: str) -> dict[str, Any]:
    return {"publish": bus.publish, "topic": topic, "event": values.trade()}


def handler() -> Handler:
    def heard(event: Any) -> None:
        pass

    return heard


def _raise(fault: Fault) -> None:
    raise fault.error


def _matches(pattern: list[str], segments: list[str]) -> bool:
    if pattern[-1] == "*" and len(segments) >= len(pattern):
        segments = segments[: len(pattern)]
    return len(pattern) == len(segments) and all(
        wanted in ("*", told) for wanted, told in zip(pattern, segments, strict=True)
    )
