"""As many seeds of the simulation as fit the time: see `tests.simulation` and docs/guarantees.md.

ZQ_SIM_S is for how many seconds (150) new ones are begun.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
import trio
from attrs import asdict, evolve

from tests.simulation import __main__ as command
from tests.simulation import lives, many, seed
from tests.simulation.many import ROOT, coverage_table, known_outcomes, report, run_many
from tests.simulation.mutants import MUTANTS, unmeasured
from tests.simulation.plan import draw_plan
from tests.simulation.seed import Outcome, outcome_of, run_plan, run_seed
from tests.simulation.world import World

SECONDS = float(os.environ.get("ZQ_SIM_S", "150"))
_LEAST = 4


def test_seeds_are_clean() -> None:
    found: list[Outcome] = []

    def note(outcome: Outcome) -> bool:
        found.append(outcome)
        return not outcome.wrong

    until = time.monotonic() + SECONDS
    jobs = os.cpu_count() or 1
    run_many(itertools.count(), jobs=jobs, on_outcome=note, deadline_s=until)
    assert [(each.seed, each.wrong) for each in found if each.wrong] == []
    assert len(found) >= _LEAST
    told = "\n".join([*report(found, SECONDS), *coverage_table(found)])
    assert f"seeds      {len(found)}, 0 failed" in told


def _digest(seed: int, hash_seed: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seed", str(seed), "--digest"],
        cwd=ROOT,
        env=unmeasured() | {"PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_one_seed_has_one_history_in_any_process() -> None:
    """Every event and every byte of the disk."""
    first, second = _digest(3, "1"), _digest(3, "2")
    assert first == second
    assert len(first) == 64
    assert first != _digest(4, "1")


def test_a_seed_in_which_too_little_happens_fails() -> None:
    plan = draw_plan(0)
    weak = outcome_of(run_plan(evolve(plan, faults=plan.faults[:1])))
    assert any(re.match("too weak: [01] faults", problem) for problem in weak.wrong)


def test_a_failure_is_told_with_its_faults_and_its_order(tmp_path: Path) -> None:
    (mutant,) = (each for each in MUTANTS if each.name == "submit before the intent is durable")
    mutant.plant(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", "--seed", str(mutant.seed), "--tries", "1"],
        cwd=tmp_path,
        env=unmeasured() | {"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    faults = len(draw_plan(mutant.seed).faults)
    for told in (
        f"seed {mutant.seed}: ",
        "was sent before its intent was durable",
        f" of {faults}:",
        "OrderInitialized",
        "order arrives, nonce ",
    ):
        assert told in done.stdout


def test_what_was_tried_is_not_tried_again(tmp_path: Path) -> None:
    outcome = Outcome(
        seed=1,
        wrong=("2.5 s, life 1: something",),
        orders=200,
        fills=80,
        lives=3,
        virtual_s=600.5,
        cpu_s=1.5,
        faults={"cut": 2},
        ends={"stopped": 1},
        coverage={"cut|accepted": 2},
        digest="ab",
    )
    path = tmp_path / "outcomes.jsonl"
    path.write_text(f"{json.dumps(asdict(outcome))}\n{{cut off")
    assert known_outcomes(path) == {1: outcome}


_SOON_S = 3.0


async def _crash(world: World) -> None:
    await trio.sleep(20)
    raise ValueError("a checker is broken")


async def _spin(world: World) -> None:
    await trio.sleep(20)
    while True:
        pass


def _crashing_seed(seed_: int) -> Outcome:
    with mock.patch.object(lives, "_look_around", _crash):
        return run_seed(seed_)


def _endless_seed(seed_: int) -> Outcome:
    with (
        mock.patch.object(lives, "_look_around", _spin),
        mock.patch.object(seed, "MOST_S", _SOON_S),
    ):
        return run_seed(seed_)


def _worldless_seed(seed_: int) -> Outcome:
    with mock.patch.object(World, "__attrs_post_init__", _crash_at_once):
        return run_seed(seed_)


def _crash_at_once(world: World) -> None:
    raise ValueError("no world")


def _dying_seed(_seed: int) -> Outcome:
    os._exit(3)


@pytest.mark.parametrize(
    ("run", "told"),
    [
        (_crashing_seed, r"[0-9.]+ s, life 1: the run ended by ValueError: a checker is broken \("),
        (_endless_seed, r"[0-9.]+ s, life 1: it took more than 3\.0 s of real time and was interr"),
        (_worldless_seed, "the run ended by NoWorldError: ValueError: no world"),
        (_dying_seed, "the run ended by BrokenProcessPool: "),
    ],
)
def test_a_run_that_ends_by_anything_is_its_seeds_failure(
    run: Callable[[int], Outcome], told: str, tmp_path: Path
) -> None:
    path = tmp_path / "outcomes.jsonl"
    with mock.patch.object(many, "run_seed", run):
        found = many.resume(1, jobs=1, path=path, on_outcome=lambda _outcome: True)
    assert [each.seed for each in found] == [0]
    assert re.match(told, found[0].wrong[0])
    assert bool(known_outcomes(path)) == (found[0].lives > 0)


@pytest.mark.parametrize(
    ("what", "told"), [(_crash, "a checker is"), (_spin, "and was interrupted")]
)
def test_one_that_crashes_or_hangs_is_told_in_full(
    what: Callable[[World], object], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        mock.patch.object(lives, "_look_around", what),
        mock.patch.object(command, "MOST_S", _SOON_S),
        mock.patch.object(command, "_SHRINK_S", _SOON_S),
    ):
        assert command.main(["--seed", "5", "--tries", "1"]) == 1
    said = capsys.readouterr().out
    assert said.startswith("seed 5: ")
    assert told in said.splitlines()[1]
    for each in ("the fewest faults that do it, ", "\norder 0x", "--- life 1", "OrderInitialized"):
        assert each in said
