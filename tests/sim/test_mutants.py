"""Each daemon that is wrong on purpose is noticed, by a seed that is known to notice it."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from attrs import evolve

from tests.simulation.mutants import MUTANTS, Hunted, Mutant, hunt


def _hunt(mutant: Mutant) -> Hunted:
    return hunt(mutant, first=mutant.seed, most=1)


def test_every_mutant_is_noticed() -> None:
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = list(pool.map(_hunt, MUTANTS))
    assert [each.mutant.name for each in found if each.number is None] == []
    assert len({each.name for each in MUTANTS}) == len(MUTANTS) >= 18


def test_a_mutant_whose_text_is_gone_is_an_error(tmp_path: Path) -> None:
    stale = evolve(MUTANTS[0], old="what the module never said")
    with pytest.raises(ValueError, match=r"departures\.py has its text 0 times"):
        stale.plant(tmp_path)


def test_a_daemon_that_is_not_wrong_is_not_noticed() -> None:
    harmless = evolve(MUTANTS[0], new=MUTANTS[0].old)
    assert hunt(harmless, first=1, most=1).number is None
