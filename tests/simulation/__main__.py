"""`python -m tests.simulation`: one seed told in full, or many of them.

`--seed S` runs seed S; when it fails: what was wrong, the fewest faults that do it (in `--tries N`
runs at most), the timeline of the orders concerned. With `--digest` only the digest of every event
and of the disk. `--seeds N`: seeds 0 to N, those that the code of now was not tried with yet, in
`--jobs J` processes; with `--coverage` also how often which fault met orders in which state.
`--hunt N`: the first of N seeds, from `--first S` on, that fails. `--mutants N`: each daemon that
is wrong on purpose, with up to N seeds until one notices.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import click

from tests.simulation.many import coverage_table, report, results_file, resume
from tests.simulation.mutants import MUTANTS, hunt
from tests.simulation.plan import Plan, draw_plan
from tests.simulation.seed import MOST_S, TOO_WEAK, Outcome, outcome_of, run_plan, run_seed
from tests.simulation.shrink import kinds, shrink
from tests.simulation.timeline import orders_in, timeline
from tests.simulation.world import World

_MOST_FAILED = 20
_LAST_ORDERS = 2
_SHRINK_S = 60


def main(arguments: Sequence[str]) -> int:
    """The exit code: 1 when anything failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seed", type=int)
    what.add_argument("--seeds", type=int)
    what.add_argument("--hunt", type=int)
    what.add_argument("--mutants", type=int)
    parser.add_argument("--tries", type=int, default=60)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--digest", action="store_true")
    parser.add_argument("--coverage", action="store_true")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args(arguments)
    if asked.seeds is not None:
        return _run_many(asked.seeds, jobs=asked.jobs, coverage=asked.coverage)
    if asked.hunt is not None:
        return _hunt(asked.first, asked.hunt)
    if asked.mutants is not None:
        return _hunt_mutants(asked.mutants, jobs=asked.jobs)
    if asked.digest:
        click.echo(run_seed(asked.seed, digests=True).digest)
        return 0
    return _run_one(draw_plan(asked.seed), asked.tries)


def _run_many(count: int, *, jobs: int, coverage: bool) -> int:
    began, failed = time.monotonic(), 0

    def tell(outcome: Outcome) -> bool:
        nonlocal failed
        if outcome.wrong:
            failed += 1
            click.echo(f"seed {outcome.seed} FAILED: {outcome.wrong[0]}")
        return failed < _MOST_FAILED

    outcomes = resume(count, jobs=jobs, path=results_file(), on_outcome=tell)
    for line in report(outcomes, time.monotonic() - began):
        click.echo(line)
    for line in coverage_table(outcomes) if coverage else ():
        click.echo(line)
    if any(each.wrong for each in outcomes):
        click.echo("tell more of one: python -m tests.simulation --seed S")
        return 1
    return 0 if len(outcomes) == count else 1


def _hunt(first: int, count: int) -> int:
    """For a daemon that may be wrong in any way."""
    for seed in range(first, first + count):
        how = _what_is_wrong(seed)
        if how:
            click.echo(f"noticed {seed} {how.splitlines()[0]}")
            return 1
    click.echo("unnoticed")
    return 0


def _what_is_wrong(seed: int) -> str:
    """That too little happened is not: it says nothing of a daemon."""
    found = [each for each in run_seed(seed).wrong if not each.startswith(TOO_WEAK)]
    return next(iter(found), "")


def _hunt_mutants(most: int, *, jobs: int) -> int:
    tries: list[int] = []
    unnoticed = 0
    with ThreadPoolExecutor(jobs) as pool:
        for found in pool.map(partial(hunt, first=0, most=most), MUTANTS):
            if found.number is None:
                unnoticed += 1
                click.echo(f"NOT NOTICED by {found.tried} seeds: {found.mutant.name}")
            else:
                tries.append(found.tried)
                click.echo(f"seed {found.number:3}  {found.mutant.name}: {found.how[:160]}")
    median = statistics.median(tries) if tries else 0
    click.echo(f"{len(tries)} of {len(MUTANTS)} mutants noticed, median {median} seeds")
    return 1 if unnoticed else 0


def _run_one(plan: Plan, tries: int) -> int:
    world = run_plan(plan, most_s=MOST_S)
    outcome = outcome_of(world)
    click.echo(
        f"seed {plan.seed}: {outcome.orders} orders, {outcome.lives} lives, {outcome.faults}"
    )
    if not outcome.wrong:
        click.echo("nothing is wrong")
        return 0
    for problem in outcome.wrong:
        click.echo(f"WRONG {problem}")
    wanted = kinds(world.wrong)

    def fails(fewer: Plan) -> bool:
        return bool(wanted & kinds(run_plan(fewer, most_s=_SHRINK_S).wrong))

    fewest = shrink(plan, fails, most_runs=tries)
    click.echo(f"\nthe fewest faults that do it, {len(fewest.faults)} of {len(plan.faults)}:")
    for fault in fewest.faults:
        click.echo(f"  {fault}")
    world = run_plan(fewest, most_s=_SHRINK_S)
    for order in orders_in(world.wrong) or _last_orders(world) or [""]:
        click.echo(f"\norder {order}" if order else "\nno order in particular")
        for line in timeline(world, order):
            click.echo(f"  {line}")
    return 1


def _last_orders(world: World) -> list[str]:
    """Those that things happened to last: for a crash, which names none."""
    found = dict.fromkeys(each.order for each in reversed(world.told) if each.order)
    return list(found)[:_LAST_ORDERS]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
