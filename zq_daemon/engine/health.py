"""Tells that a component is healthy, or what is wrong with it: on the bus, for whoever watches.

Owns how that is said. What is wrong, and when to say it again, is its caller's; so is the log line,
as each has words of its own.
"""

from __future__ import annotations

from zq_daemon.core import topics
from zq_daemon.core.bus import MessageBus
from zq_daemon.model.event import HealthChanged
from zq_daemon.ports.clock import Clock


def tell_health(
    bus: MessageBus, clock: Clock, component: str, reason: str, *, healthy: bool
) -> None:
    """Publish that *component* (of an account: `<what>:<account>`) is *healthy* or not, and why."""
    event = HealthChanged(
        component=component, healthy=healthy, reason=reason, ts_event_ns=clock.now_ns()
    )
    bus.publish(topics.health(component), event)
