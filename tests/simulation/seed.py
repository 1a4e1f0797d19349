"""Runs one seed and says what came of it."""

from __future__ import annotations

import hashlib
import logging
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType

import structlog
from attrs import field, frozen

from tests.harness.determinism import run_virtual
from tests.simulation.lives import simulate
from tests.simulation.plan import LEAST_ORDERS, Plan, draw_plan
from tests.simulation.world import World, described
from zq_daemon.runtime.containment import leaves

MOST_S = 300
TOO_WEAK = "too weak"
_AGAIN_S = 10
LEAST_FAULTS, LEAST_LIVES, LEAST_S = 5, 2, 600.0


@frozen(kw_only=True)
class Outcome:
    """What a seed came to; with nothing in *wrong* all is well."""

    seed: int
    wrong: tuple[str, ...] = field(converter=tuple)
    orders: int
    fills: int
    lives: int
    virtual_s: float
    cpu_s: float
    faults: dict[str, int]
    ends: dict[str, int]
    coverage: dict[str, int] = field(repr=False)
    digest: str = ""


class TooLongError(BaseException):
    """Interrupts what takes for ever; no `Exception`, which somebody might live with."""


class NoWorldError(Exception):
    """A run has ended before there was a world to tell of."""


def run_plan(plan: Plan, *, digests: bool = False, most_s: float = MOST_S) -> World:
    """The world that *plan* leaves behind, after *most_s* at most.

    What a run ends by is something wrong with its world; NoWorldError if there was none yet.
    """
    worlds: list[World] = []
    errors: list[BaseException] = []
    with _bounded(most_s) as late:
        try:
            _run_quietly(plan, worlds.append, digests=digests)
        except (Exception, BaseExceptionGroup, TooLongError) as error:
            errors += {str(each): each for each in leaves(error)}.values()
            if any(isinstance(each, KeyboardInterrupt | SystemExit) for each in errors):
                raise
    if not worlds:
        raise NoWorldError("; ".join(map(described, errors)))
    (world,) = worlds
    if late:
        world.complain(f"it took more than {most_s} s of real time and was interrupted: {late[0]}")
    for each in () if late else errors:
        world.complain(f"the run ended by {described(each)}")
    world.ended_s = world.now_s
    return world


def _run_quietly(plan: Plan, known: Callable[[World], None], *, digests: bool) -> None:
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        with tempfile.TemporaryDirectory(prefix="zq-sim-") as folder:
            run = partial(simulate, plan, Path(folder), known, digests=digests)
            run_virtual(plan.seed, run)
    finally:
        structlog.configure(**before)


def run_seed(seed: int, *, digests: bool = False) -> Outcome:
    """The outcome of *seed*."""
    began = time.process_time()
    world = run_plan(draw_plan(seed), digests=digests, most_s=MOST_S)
    return outcome_of(world, time.process_time() - began)


@contextmanager
def _bounded(most_s: float) -> Iterator[list[str]]:
    """Interrupt again and again what takes for ever; where it was then."""
    late: list[str] = []

    def interrupt(_number: int, frame: FrameType | None) -> None:
        late.append(f"{frame.f_code.co_filename}, line {frame.f_lineno}" if frame else "")
        raise TooLongError

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, most_s, _AGAIN_S)
    try:
        yield late
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def no_outcome(seed: int, error: BaseException) -> Outcome:
    """That of a run that ended before there was a world, or whose process did."""
    return Outcome(
        seed=seed,
        wrong=(f"the run ended by {described(error)}",),
        orders=0,
        fills=0,
        lives=0,
        virtual_s=0.0,
        cpu_s=0.0,
        faults={},
        ends={},
        coverage={},
    )


def outcome_of(world: World, cpu_s: float = 0.0) -> Outcome:
    """What there is to say of *world*; one that was too weak is wrong."""
    orders, virtual_s = len(world.placed), world.ended_s
    wrong = [*world.wrong]
    for name, found, least in (
        ("orders", orders, LEAST_ORDERS),
        ("faults", world.injected.total(), LEAST_FAULTS),
        ("lives", world.life, LEAST_LIVES),
        ("seconds", virtual_s, LEAST_S),
    ):
        if found < least:
            wrong.append(f"{TOO_WEAK}: {found} {name}, and {least} are the least")
    image = hashlib.sha256(world.disk.image() + world.digest.hexdigest().encode())
    return Outcome(
        seed=world.plan.seed,
        wrong=tuple(wrong),
        orders=orders,
        fills=world.events["OrderFilled"],
        lives=world.life,
        virtual_s=virtual_s,
        cpu_s=round(cpu_s, 2),
        faults=dict(world.injected),
        ends=dict(world.ends),
        coverage={f"{kind}|{state}": n for (kind, state), n in Counter(world.coverage).items()},
        digest=image.hexdigest(),
    )
