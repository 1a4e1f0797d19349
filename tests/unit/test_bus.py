"""The message bus, one behaviour a test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from zq_daemon.core.bus import Fault, MessageBus, Subscription
from zq_daemon.errors import BusError


class Watched:
    """A bus whose faults and deliveries are kept."""

    def __init__(self, **limits: int) -> None:
        self.faults: list[Fault] = []
        self.heard: list[tuple[str, Any]] = []
        self.bus = MessageBus(self.faults.append, **limits)

    def listen(self, pattern: str, name: str) -> Subscription:
        return self.bus.subscribe(
            pattern, lambda event: self.heard.append((name, event)), owner=name
        )


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [
        ("a.b", "a.b", True),
        ("a.b", "a.c", False),
        ("a.b", "a.b.c", False),
        ("a.b.c", "a.b", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("market_data.*", "market_data.trade.hyperliquid.BTC", True),
        ("market_data.*", "market_data2.trade", False),
        ("a.*.c", "a.b.c", True),
        ("a.*.c", "a.b.b.c", False),
        ("a.*.c", "a.c", False),
        ("*.b", "a.b", True),
        ("*.b", "a.a.b", False),
        ("*", "a", True),
        ("*", "a.b.c", True),
        ("*.*", "a", False),
        ("*.*", "a.b.c", True),
        ("a.*.c.*", "a.b.c.d.e", True),
        ("a.*.c.*", "a.b.d.d.e", False),
    ],
)
@pytest.mark.parametrize("topic_first", [True, False])
def test_patterns(pattern: str, topic: str, expected: bool, topic_first: bool) -> None:
    watched = Watched()
    if topic_first:
        watched.bus.publish(topic, "before")
    watched.listen(pattern, "x")
    assert watched.bus.has_subscribers(topic) is expected
    watched.bus.publish(topic, "event")
    assert watched.heard == ([("x", "event")] if expected else [])


@pytest.mark.parametrize("pattern", ["", ".", "a.", ".a", "a..b", "a.b*", "*a.b", "**", "a.**"])
def test_a_malformed_pattern_is_refused(pattern: str) -> None:
    watched = Watched()
    with pytest.raises(BusError, match=r"pattern '.*': a s"):
        watched.bus.subscribe(pattern, print)
    watched.bus.publish("a.b", 1)


@pytest.mark.parametrize("topic", ["", ".", "a.", "a..b", "a.*", "*", "a.b*"])
def test_a_malformed_topic_is_refused(topic: str) -> None:
    watched = Watched()
    with pytest.raises(BusError, match=r"topic '.*': a s"):
        watched.bus.publish(topic, 1)
    with pytest.raises(BusError, match=r"topic '.*': a s"):
        watched.bus.has_subscribers(topic)


def test_subscribers_are_called_in_the_order_they_subscribed() -> None:
    watched = Watched()
    for number, pattern in enumerate(["*", "a.b", "a.*", "*.b", "a.b"]):
        watched.listen(pattern, str(number))
    watched.bus.publish("a.b", 1)
    assert [name for name, _ in watched.heard] == ["0", "1", "2", "3", "4"]


def test_what_a_handler_publishes_follows_the_current_event_first_in_first_out() -> None:
    watched = Watched()

    def answer(event: str) -> None:
        watched.bus.publish("second", f"{event} 1")
        watched.bus.publish("second", f"{event} 2")
        assert ("late", event) not in watched.heard

    watched.bus.subscribe("first", answer)
    watched.listen("first", "late")
    watched.bus.subscribe("second", lambda event: watched.bus.publish("third", event))
    watched.listen("second", "second")
    watched.listen("third", "third")
    watched.bus.publish("first", "e")
    assert not watched.faults
    assert watched.heard == [
        ("late", "e"),
        ("second", "e 1"),
        ("second", "e 2"),
        ("third", "e 1"),
        ("third", "e 2"),
    ]


def test_a_handler_that_raises_is_reported_and_keeps_nobody_from_the_event() -> None:
    watched = Watched()
    problem = ValueError("broken")
    watched.listen("a", "first")
    watched.bus.subscribe("a", _raising(problem), owner="culprit")
    watched.listen("a", "last")
    watched.bus.publish("a", 5)
    assert watched.heard == [("first", 5), ("last", 5)]
    assert watched.faults == [Fault(owner="culprit", topic="a", event=5, error=problem)]
    assert watched.bus.faults == 1
    watched.bus.publish("a", 6)
    assert watched.bus.faults == 2


def test_a_fault_in_an_event_that_waited_is_reported_with_its_own_topic() -> None:
    watched = Watched()
    problem = ValueError("broken")
    watched.bus.subscribe("first", lambda event: watched.bus.publish("second", event))
    watched.bus.subscribe("second", _raising(problem), owner="culprit")
    watched.listen("second", "last")
    watched.bus.publish("first", 5)
    assert watched.heard == [("last", 5)]
    assert watched.faults == [Fault(owner="culprit", topic="second", event=5, error=problem)]


def test_a_fault_finds_its_owner_among_subscriptions_of_one_and_the_same_handler() -> None:
    watched = Watched()
    countdown = [None, ValueError("second call")]

    def second_call_raises(event: object) -> None:
        problem = countdown.pop(0)
        if problem:
            raise problem

    watched.bus.subscribe("a", second_call_raises, owner="one")
    watched.bus.subscribe("*", second_call_raises, owner="two")
    watched.bus.publish("a", 1)
    assert [fault.owner for fault in watched.faults] == ["two"]


def test_a_handler_that_cancels_itself_and_raises_still_has_its_owner() -> None:
    watched = Watched()

    def leave(event: object) -> None:
        subscription.cancel()
        raise ValueError("leaving")

    subscription = watched.bus.subscribe("a", leave, owner="leaver")
    watched.bus.publish("a", 1)
    watched.bus.publish("a", 2)
    assert [(fault.owner, fault.event) for fault in watched.faults] == [("leaver", 1)]


@pytest.mark.parametrize("end", [SystemExit(3), GeneratorExit()])
def test_a_handler_cannot_end_the_process(end: BaseException) -> None:
    watched = Watched()

    def leave(event: Any) -> None:
        raise end

    def lead(event: Any) -> None:
        watched.bus.publish("b", event)

    watched.bus.subscribe("a", leave, owner="at once")
    watched.bus.subscribe("a", lead)
    watched.bus.subscribe("b", leave, owner="in turn")
    watched.bus.handle("c", leave, owner="commanded")
    watched.listen("*", "others")
    watched.bus.publish("a", 1)
    watched.bus.send("c", 2)
    assert watched.heard == [("others", 1), ("others", 1)]
    assert [(fault.owner, fault.error) for fault in watched.faults] == [
        ("at once", end),
        ("in turn", end),
        ("commanded", end),
    ]


def test_an_interrupt_is_not_contained_and_leaves_the_bus_usable() -> None:
    watched = Watched()
    subscription = watched.listen("a", "gone")

    def interrupted(event: object) -> None:
        watched.bus.publish("b", "lost")
        subscription.cancel()
        raise KeyboardInterrupt

    once = watched.bus.subscribe("a", interrupted)
    watched.listen("*", "x")
    with pytest.raises(KeyboardInterrupt):
        watched.bus.publish("a", 1)
    once.cancel()
    watched.heard.clear()
    watched.bus.publish("a", 2)
    assert watched.heard == [("x", 2)]
    assert not watched.faults


def test_a_cancelled_subscription_hears_nothing_more() -> None:
    watched = Watched()
    for pattern in ("a.b", "a.*"):
        watched.listen(pattern, "cancelled").cancel()
    kept = watched.listen("a.b", "kept")
    early = watched.listen("a.*", "early")
    watched.bus.publish("a.b", 1)
    early.cancel()
    early.cancel()
    watched.bus.publish("a.b", 2)
    assert watched.heard == [("kept", 1), ("early", 1), ("kept", 2)]
    kept.cancel()
    assert not watched.bus.has_subscribers("a.b")


@pytest.mark.parametrize("waited", [False, True])
@pytest.mark.parametrize("pattern", ["a", "*"])
def test_cancelling_inside_a_handler_takes_effect_at_once(pattern: str, waited: bool) -> None:
    watched = Watched()
    victims: list[Subscription] = []

    def cancel_all(event: object) -> None:
        for victim in victims:
            victim.cancel()

    victims.append(watched.listen(pattern, "before"))
    victims.append(watched.bus.subscribe(pattern, cancel_all))
    victims.append(watched.listen(pattern, "after"))
    watched.listen("a", "other")
    _publish(watched.bus, "a", 1, waited=waited)
    watched.bus.publish("a", 2)
    assert watched.heard == [("before", 1), ("other", 1), ("other", 2)]
    assert watched.bus.deliveries == 3 + 1 + (1 if waited else 0)


def test_cancelling_inside_a_handler_holds_for_events_that_wait_already() -> None:
    watched = Watched()

    def publish_then_cancel(event: object) -> None:
        watched.bus.publish("b", 1)
        victim.cancel()
        watched.bus.publish("b", 2)

    watched.bus.subscribe("a", publish_then_cancel)
    victim = watched.listen("b", "victim")
    watched.listen("b", "other")
    watched.bus.publish("a", 0)
    assert watched.heard == [("other", 1), ("other", 2)]
    assert watched.bus.deliveries == 3


@pytest.mark.parametrize("pattern", ["b", "*"])
def test_a_subscription_made_inside_a_handler_hears_what_is_published_after_it(
    pattern: str,
) -> None:
    watched = Watched()

    def publish_subscribe_publish(event: object) -> None:
        watched.bus.publish("b", "before")
        made.append(watched.listen(pattern, "new"))
        watched.bus.publish("b", "after")
        watched.bus.publish("c", "after")

    made: list[Subscription] = []
    watched.bus.subscribe("a", publish_subscribe_publish)
    watched.bus.publish("a", 0)
    expected = [("new", "after")] * (2 if pattern == "*" else 1)
    assert watched.heard == expected
    made[0].cancel()
    watched.bus.publish("b", "later")
    assert watched.heard == expected


def test_a_subscription_made_and_cancelled_inside_a_handler_hears_nothing() -> None:
    watched = Watched()

    def come_and_go(event: object) -> None:
        made = watched.listen("a", "new")
        made.cancel()

    watched.bus.subscribe("a", come_and_go)
    watched.bus.publish("a", 1)
    watched.bus.publish("a", 2)
    assert watched.heard == []


def test_a_new_subscription_does_not_bring_a_cancelled_one_back() -> None:
    watched = Watched()

    def subscribe_then_cancel(event: object) -> None:
        watched.listen("a", "new")
        watched.bus.publish("a", "next")
        victim.cancel()

    victim = watched.listen("a", "victim")
    once = watched.bus.subscribe("start", subscribe_then_cancel)
    watched.bus.publish("a", "before")
    watched.bus.publish("start", 0)
    once.cancel()
    assert watched.heard == [("victim", "before"), ("new", "next")]


def test_counters() -> None:
    watched = Watched()
    watched.listen("a.*", "x")
    watched.listen("a.b", "y")
    assert watched.bus.has_subscribers("a.b")
    assert watched.bus.counters() == {}
    watched.bus.publish("a.b", 1)
    watched.bus.publish("a.b", 2)
    watched.bus.publish("a.c", 3)
    watched.bus.publish("nobody", 4)
    assert watched.bus.counters() == {"a.b": 2, "a.c": 1, "nobody": 1}
    assert watched.bus.deliveries == 5
    late = watched.listen("*", "late")
    watched.bus.publish("a.b", 5)
    late.cancel()
    watched.bus.publish("a.b", 6)
    assert watched.bus.deliveries == 5 + 3 + 2


def test_too_many_topics_are_refused() -> None:
    watched = Watched(topic_limit=2)
    watched.bus.publish("a", 1)
    watched.bus.publish("b", 1)
    with pytest.raises(BusError, match="'c': already 2 topics"):
        watched.bus.publish("c", 1)
    watched.listen("*", "x")
    watched.bus.publish("a", 2)
    assert watched.heard == [("x", 2)]


def test_a_loop_without_end_is_laid_to_the_subscriber_being_served() -> None:
    watched = Watched(queue_limit=100)
    looping: list[Subscription] = []

    def on_fault(fault: Fault) -> None:
        watched.faults.append(fault)
        looping[0].cancel()
        watched.bus.publish("health", fault.owner)

    watched.bus = MessageBus(on_fault, queue_limit=100)
    watched.listen("health", "health")
    watched.listen("loop", "innocent")
    looping.append(
        watched.bus.subscribe("loop", lambda n: watched.bus.publish("loop", n + 1), owner="looper")
    )
    watched.bus.publish("loop", 0)
    assert [fault.owner for fault in watched.faults] == ["looper"]
    assert "'loop'" in str(watched.faults[0].error)
    assert "queue limit 100" in str(watched.faults[0].error)
    assert watched.heard[-2:] == [("health", "looper"), ("innocent", 101)]
    watched.bus.publish("loop", 500)
    assert watched.heard[-1] == ("innocent", 500)


def test_a_loop_that_nobody_stops_ends_at_twice_the_limit() -> None:
    watched = Watched(queue_limit=100)
    watched.bus.subscribe("loop", lambda n: watched.bus.publish("loop", n + 1), owner="looper")
    watched.bus.publish("loop", 0)
    assert [type(fault.error) for fault in watched.faults] == [BusError, BusError]
    assert watched.bus.counters() == {"loop": 201}
    watched.bus.publish("other", 0)
    assert watched.bus.counters()["other"] == 1


def test_one_handler_cannot_fill_the_queue_without_end() -> None:
    watched = Watched(queue_limit=10)

    def flood(event: object) -> None:
        while True:
            watched.bus.publish("flood", event)

    watched.bus.subscribe("start", flood, owner="flooder")
    watched.bus.publish("start", 0)
    assert [fault.owner for fault in watched.faults] == ["flooder"]
    assert watched.bus.counters() == {"start": 1, "flood": 20}


def test_publishing_again_and_again_from_outside_is_no_loop() -> None:
    watched = Watched(queue_limit=2)
    watched.bus.subscribe("a", lambda event: watched.bus.publish("b", event))
    for number in range(10):
        watched.bus.publish("a", number)
    assert not watched.faults
    assert watched.bus.counters() == {"a": 10, "b": 10}


def test_requests() -> None:
    bus = Watched().bus
    registration = bus.register("risk.check", lambda message: message * 2, owner="risk")
    assert bus.request("risk.check", 21) == 42
    with pytest.raises(BusError, match=r"endpoint 'risk.check' is already registered by risk"):
        bus.register("risk.check", print)
    registration.cancel()
    with pytest.raises(BusError, match=r"unknown endpoint 'risk.check'; registered: none"):
        bus.request("risk.check", 21)


def test_what_an_endpoint_raises_goes_to_the_caller() -> None:
    watched = Watched()
    watched.bus.register("a", _raising(KeyError("a")))
    with pytest.raises(KeyError):
        watched.bus.request("a", 1)
    assert not watched.faults


def test_a_registration_cancelled_twice_leaves_its_successor_alone() -> None:
    bus = Watched().bus
    first = bus.register("a", lambda message: 1)
    first.cancel()
    bus.register("a", lambda message: 2)
    first.cancel()
    assert bus.request("a", None) == 2


def test_commands() -> None:
    watched = Watched()
    watched.bus.handle("order.submit", watched.heard.append)
    watched.bus.send("order.submit", ("submit", 1))
    assert watched.heard == [("submit", 1)]
    with pytest.raises(BusError, match=r"command 'order.submit' is already registered by somebody"):
        watched.bus.handle("order.submit", print)
    with pytest.raises(BusError, match=r"unknown command 'order.sumbit'; registered: order.submit"):
        watched.bus.send("order.sumbit", 1)


def test_a_command_that_raises_is_its_handlers_fault() -> None:
    watched = Watched()
    problem = ValueError("broken")
    watched.bus.handle("order.submit", _raising(problem), owner="execution")
    watched.bus.send("order.submit", 1)
    expected = Fault(owner="execution", topic="order.submit", event=1, error=problem)
    assert watched.faults == [expected]


def test_a_command_is_carried_out_at_once_and_its_events_follow_the_current_one() -> None:
    watched = Watched()
    watched.bus.handle("submit", lambda message: watched.bus.publish("order", message))
    watched.bus.subscribe("tick", lambda event: watched.bus.send("submit", event))
    watched.listen("order", "order")
    watched.listen("tick", "tick")
    watched.bus.publish("tick", 1)
    assert watched.heard == [("tick", 1), ("order", 1)]
    watched.bus.send("submit", 2)
    assert watched.heard[-1] == ("order", 2)


@pytest.mark.parametrize("name", ["", "a.", "a.*"])
def test_malformed_names_cannot_be_registered(name: str) -> None:
    bus = Watched().bus
    with pytest.raises(BusError):
        bus.register(name, print)
    with pytest.raises(BusError):
        bus.handle(name, print)


def test_a_subscription_names_its_pattern_and_owner() -> None:
    assert repr(Watched().listen("a.*", "me")) == "Subscription('a.*', owner='me')"


def _raising(problem: Exception) -> Callable[[Any], None]:
    def handler(event: object) -> None:
        raise problem

    return handler


def _publish(bus: MessageBus, topic: str, event: object, *, waited: bool) -> None:
    if not waited:
        bus.publish(topic, event)
        return
    once = bus.subscribe("first", lambda event: bus.publish(topic, event))
    bus.publish("first", event)
    once.cancel()
