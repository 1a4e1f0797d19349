"""Lives of the execution engine at a venue that keeps its word, with crashes between them."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence

import trio
from attrs import evolve, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.determinism import run_virtual
from tests.harness.engine_lives import ENDS, PAUSES, TURNS, EngineLives, Turn, open_venue
from tests.harness.model_venue import FAULTS

SCALE = int(os.environ.get("ZQ_SIM_SEEDS", "3"))


@frozen
class Script:
    """One life: its turns, what becomes of its requests, its end, and what the venue does then."""

    turns: Sequence[Turn]
    plan: Sequence[str]
    end: str
    calm: bool
    away: Sequence[Turn]


TURN = st.builds(Turn, st.sampled_from(TURNS), st.integers(0, 59), st.sampled_from(PAUSES))
SCRIPT = st.builds(
    Script,
    st.lists(TURN, max_size=20),
    st.lists(st.sampled_from(("", *FAULTS)), max_size=12),
    st.sampled_from(ENDS),
    st.booleans(),
    st.lists(TURN, max_size=3),
)
CLOSE = (0.0004, 0.0012, 0.003, 0.02, 0.3, 0.3, 1.0, 3.0, 9.0)
"""Pauses in which something is mostly under way."""
UNDER_WAY = st.builds(
    Script,
    st.lists(
        st.builds(
            Turn,
            st.sampled_from((*("modify",) * 5, *("trade",) * 3, "cancel")),
            st.integers(0, 59),
            st.sampled_from(CLOSE),
        ),
        min_size=2,
        max_size=8,
    ),
    st.lists(st.sampled_from(("", "", "slow", "unanswered", "late", "lost", "crash_after"))),
    st.sampled_from(("kill", "power")),
    st.just(False),
    st.lists(st.builds(Turn, st.just("trade"), st.integers(0, 59), st.just(0.0)), max_size=2),
)


async def live_through(seed: int, scripts: Sequence[Script], validity_ms: int | None) -> None:
    rng = random.Random(seed)
    async with trio.open_nursery() as nursery:
        venue = open_venue(nursery, rng, longest_s=12)
        lives = EngineLives(venue=venue, rng=rng, validity_ms=validity_ms)
        for script in scripts:
            await lives.live(script.turns, script.end, calm=script.calm, plan=script.plan)
            lives.away(script.away)
        await lives.live([], "kill", calm=True)
        assert lives.wrong + venue.wrong == []
        nursery.cancel_scope.cancel()


@settings(max_examples=60 * SCALE)
@given(
    seed=st.integers(0, 2**32),
    scripts=st.lists(SCRIPT, min_size=1, max_size=4),
    validity_ms=st.sampled_from([15_000, 15_000, 15_000, None]),
)
def test_engine_and_venue_agree_after_any_lives(
    seed: int, scripts: list[Script], validity_ms: int | None
) -> None:
    run_virtual(seed, live_through, seed, scripts, validity_ms)


@settings(max_examples=80 * SCALE)
@given(seed=st.integers(0, 2**32), scripts=st.lists(UNDER_WAY, min_size=1, max_size=3))
def test_what_is_under_way_at_a_crash_is_known_in_the_end(seed: int, scripts: list[Script]) -> None:
    """An order that is replaced and filled all the time, in one short life after another."""
    first = evolve(scripts[0], turns=[Turn("submit", 4, 1.5), *scripts[0].turns])
    run_virtual(seed, live_through, seed, [first, *scripts[1:]], 15_000)
