"""What is to happen in one simulation, drawn from its seed: pure data, which can be cut down.

A plan is a list of faults with their times, and what the world is like. Everything else that is
random in a run (the market, the scheduler, the strategies, what a fault does) has a generator of
its own from the seed, so that what is left out changes as little else as it can.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from attrs import field, frozen

TROUBLE_S = 515.0
"""Until then there are faults; what follows is healed, and has to come to agree."""
QUIET_S = 85.0
"""So long all has to settle."""
LEAST_ORDERS = 200
_FIRST_S = 6.0
_MOST_FAULTS = 14
_LEAST_FAULTS = 7


@frozen(kw_only=True)
class Fault:
    """One thing that goes wrong: *kind* with *terms*, from *at_s* on and *for_s* long."""

    kind: str
    at_s: float
    for_s: float = 0.0
    terms: Mapping[str, Any] = field(factory=dict)

    def __str__(self) -> str:
        told = " ".join(f"{key}={value}" for key, value in self.terms.items())
        lasts = f" for {self.for_s:.1f} s" if self.for_s else ""
        return f"{self.at_s:7.2f} s {self.kind}{lasts} {told}".rstrip()


@frozen(kw_only=True)
class Plan:
    """A whole simulation."""

    seed: int
    faults: tuple[Fault, ...]
    order_entry: str = "ws"
    on_start: str = "adopt"
    sync_s: float = 0.002


def draw_plan(seed: int) -> Plan:
    """The plan of *seed*."""
    rng = random.Random(f"plan {seed}")
    faults = [_draw_end(rng) for _ in range(rng.randint(1, 3))]
    count = rng.randint(_LEAST_FAULTS, _MOST_FAULTS)
    kinds = list(_DRAWN)
    faults += [_DRAWN[rng.choice(kinds)](rng) for _ in range(count)]
    faults.sort(key=lambda fault: fault.at_s)
    return Plan(
        seed=seed,
        faults=tuple(faults),
        order_entry=rng.choice(("ws", "ws", "http")),
        on_start=rng.choice(("adopt", "adopt", "cancel")),
        sync_s=rng.choice((0.0, 0.002, 0.02)),
    )


def _draw_end(rng: random.Random) -> Fault:
    """The end of a life: the process or the power, at a time or in the middle of something."""
    kind = rng.choice(("kill", "power", "power", "kill", "stop", "stop_cut", "cancel"))
    terms: dict[str, Any] = {}
    if kind in ("kill", "power"):
        terms["moment"] = rng.choice(("time", "step", "step", "sync", "lost", "unheard"))
        terms["nth"] = rng.randint(1, 400 if terms["moment"] == "step" else 8)
        terms["back_ms"] = rng.choice((0, 0, 4_000))
        """The clock that the next life finds is set back by so much."""
    at_s = rng.uniform(_FIRST_S, TROUBLE_S - 60)
    if rng.random() < 0.3:
        terms["again_s"] = rng.choice((0.0005, 0.02, 0.3, 1.5))
        """And once more so soon after the start that follows."""
    return Fault(kind=kind, at_s=at_s, terms=terms)


def _at(rng: random.Random) -> float:
    return rng.uniform(_FIRST_S, TROUBLE_S - 40)


def _exchange(
    *lengths_s: float, **choices: Callable[[random.Random], Any]
) -> Callable[[random.Random], Fault]:
    """The exchange misbehaves for a while."""

    def draw(rng: random.Random) -> Fault:
        at_s, for_s = _at(rng), rng.choice(lengths_s or (2.0, 8.0, 25.0))
        terms = {name: choose(rng) for name, choose in choices.items()}
        return Fault(kind="exchange", at_s=at_s, for_s=for_s, terms=terms)

    return draw


def _network(kind: str, *lengths_s: float) -> Callable[[random.Random], Fault]:
    def draw(rng: random.Random) -> Fault:
        return Fault(kind=kind, at_s=_at(rng), for_s=rng.choice(lengths_s))

    return draw


def _one_of(*values: Any) -> Callable[[random.Random], Any]:
    return lambda rng: rng.choice(values)


def _jump(rng: random.Random) -> Fault:
    return Fault(
        kind="clock", at_s=_at(rng), terms={"by_ms": rng.choice((-4_000, -500, 700, 2_500))}
    )


def _hand(rng: random.Random) -> Fault:
    return Fault(kind="hand", at_s=_at(rng), terms={"cancels": rng.randint(1, 4)})


_DRAWN: Mapping[str, Callable[[random.Random], Fault]] = {
    "late answers": _exchange(reply_latency_ms=_one_of(300, 3_000, 12_000)),
    "no answers": _exchange(drop_reply_count=_one_of(1, 3, 8)),
    "late private": _exchange(private_latency_ms=_one_of(200, 2_000, 9_000)),
    "lost private": _exchange(drop_private_count=_one_of(1, 3, 10)),
    "cut before": _exchange(cut_before_execute=_one_of(1, 2), cut_action=_one_of("any", "order")),
    "cut after": _exchange(
        cut_after_execute=_one_of(1, 2), cut_action=_one_of("any", "order", "cancel", "modify")
    ),
    "limited": _exchange(http_error=_one_of(429), http_error_count=_one_of(1, 3, 6)),
    "errors": _exchange(
        http_error=_one_of(500, 502),
        http_error_count=_one_of(1, 3, 6),
        http_error_executes=_one_of(False, True),
    ),
    "post only": _exchange(post_only_ms=_one_of(2_000, 8_000)),
    "strange status": _exchange(strange_status_count=_one_of(1, 4)),
    "strange reply": _exchange(strange_reply_count=_one_of(1, 4)),
    "late cancels": _exchange(cancel_latency_ms=_one_of(500, 4_000)),
    "refused cancels": _exchange(refuse_cancel_count=_one_of(1, 3)),
    "filled on cancel": _exchange(fill_on_cancel_count=_one_of(1, 3)),
    "forgotten": _exchange(
        25.0,
        forget_order_count=_one_of(5, 20),
        drop_reply_count=_one_of(2, 5),
        drop_private_count=_one_of(4, 12),
    ),
    "repeated fills": _exchange(repeat_fill_count=_one_of(3, 10)),
    "withheld fills": _exchange(4.0, 12.0, 25.0, withhold_fills=_one_of(True)),
    "swapped": _exchange(swap_modify_count=_one_of(2, 6)),
    "frozen": _exchange(freeze_data=_one_of(True)),
    "mute": _exchange(mute=_one_of(True)),
    "deaf": _exchange(deaf=_one_of(True)),
    "half open": _exchange(half_open_count=_one_of(1, 3), close_code=_one_of(1001, 1012)),
    "closed": _exchange(close_code=_one_of(1000, 1001, 1006 + 5, 4_000)),
    "skew": _exchange(clock_skew_ms=_one_of(-1_500, 1_500)),
    "hold": _network("hold", 1.0, 8.0, 45.0),
    "slow": _network("slow", 10.0, 30.0),
    "swizzle": _network("swizzle", 4.0, 15.0),
    "cut": _network("cut", 0.0),
    "cut one": _network("cut one", 0.0),
    "refuse": _network("refuse", 3.0, 20.0),
    "dns": _network("dns", 5.0, 40.0),
    "slow disk": _network("slow disk", 4.0, 15.0),
    "disk error": _network("disk error", 0.0),
    "clock": _jump,
    "hand": _hand,
}
