"""Many seeds on all cores, each in a process that is thrown away now and then; it can go on later.

Outcomes are lines of JSON in a file that is named after the sources they are about: seeds that are
in there already are not run again, and after any change of the code all of them are.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from itertools import islice
from pathlib import Path

import coverage
import msgspec
from attrs import asdict

from tests.simulation.seed import Outcome, no_outcome, run_seed

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".sim"
_SEEDS_A_POOL = 200
_ABREAST = 2


def results_file() -> Path:
    """Where outcomes of the code of now are kept."""
    found = hashlib.sha256()
    for folder in ("zq_daemon", "tests/simulation", "tests/harness"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            found.update(path.read_bytes())
    return FOLDER / f"{found.hexdigest()[:16]}.jsonl"


def known_outcomes(path: Path) -> dict[int, Outcome]:
    """What was found out before; a line that is cut off counts for nothing."""
    known: dict[int, Outcome] = {}
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            outcome = Outcome(**msgspec.json.decode(line))
        except (ValueError, TypeError):
            continue
        known[outcome.seed] = outcome
    return known


def run_many(
    seeds: Iterable[int],
    *,
    jobs: int,
    on_outcome: Callable[[Outcome], bool],
    deadline_s: float | None = None,
) -> None:
    """Run *seeds* until *on_outcome* says that it is enough, or until *deadline_s* (monotonic)."""
    left = iter(seeds)
    goes_on = True
    while goes_on and (some := list(islice(left, _SEEDS_A_POOL))):
        goes_on = _run_some(some, jobs, on_outcome, deadline_s)


def _run_some(
    seeds: Iterable[int],
    jobs: int,
    on_outcome: Callable[[Outcome], bool],
    deadline_s: float | None,
) -> bool:
    """Run them in processes of their own, which end with it; whether to go on."""
    left = iter(seeds)
    context = multiprocessing.get_context("forkserver")
    pool = ProcessPoolExecutor(jobs, context, initializer=_leave_unmeasured)
    running: dict[Future[Outcome], int] = {}
    is_broken = False
    try:
        while True:
            room = jobs * _ABREAST - len(running)
            is_late = is_broken or (deadline_s is not None and time.monotonic() > deadline_s)
            for seed in islice(left, 0 if is_late else room):
                running[pool.submit(run_seed, seed)] = seed
            if not running:
                return not is_late
            done = wait(running, return_when=FIRST_COMPLETED).done
            is_broken = any(isinstance(each.exception(), BrokenExecutor) for each in done)
            wanted = [on_outcome(_outcome(each, running.pop(each))) for each in done]
            if not all(wanted):
                return False
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _outcome(run: Future[Outcome], seed: int) -> Outcome:
    """What *seed* came to, also if not even a world came of it."""
    try:
        return run.result()
    except Exception as error:  # noqa: BLE001 whatever it is, it is that seed's
        return no_outcome(seed, error)


def _leave_unmeasured() -> None:
    """Coverage would take most of the time of a process that does nothing but run seeds."""
    measured = coverage.Coverage.current()
    if measured is not None:
        measured.stop()


def resume(
    count: int, *, jobs: int, path: Path, on_outcome: Callable[[Outcome], bool]
) -> list[Outcome]:
    """The outcomes of seeds 0 to *count*, most of which may be in *path*; new ones are added."""
    known = known_outcomes(path)
    path.parent.mkdir(exist_ok=True)
    with path.open("ab", buffering=0) as file:

        def keep(outcome: Outcome) -> bool:
            known[outcome.seed] = outcome
            if outcome.digest:  # without one it is not known whose fault it was
                file.write(json.dumps(asdict(outcome)).encode() + b"\n")
            return on_outcome(outcome)

        missing = (seed for seed in range(count) if seed not in known)
        run_many(missing, jobs=jobs, on_outcome=keep)
    return [known[seed] for seed in range(count) if seed in known]


def report(outcomes: Collection[Outcome], wall_s: float) -> Iterator[str]:
    """What so many seeds came to, for people."""
    failed = [each for each in outcomes if each.wrong]
    yield f"seeds      {len(outcomes)}, {len(failed)} failed"
    yield f"orders     {sum(each.orders for each in outcomes)} submitted, " + (
        f"{sum(each.fills for each in outcomes)} fills"
    )
    lives = sum(each.lives for each in outcomes)
    yield f"lives      {lives}, ends: {_told(_sum('ends', outcomes))}"
    yield f"virtual    {sum(each.virtual_s for each in outcomes) / 3600:.1f} hours"
    cpu_s = sum(each.cpu_s for each in outcomes)
    yield f"time       {wall_s:.0f} s now, {cpu_s:.0f} s of CPU in all on {os.cpu_count()} cores"
    yield f"faults     {_told(_sum('faults', outcomes))}"
    if failed:
        yield f"failed     {' '.join(str(each.seed) for each in failed)}"


def coverage_table(outcomes: Collection[Outcome]) -> Iterator[str]:
    """How often which fault met orders in which state."""
    met = _sum("coverage", outcomes)
    kinds = sorted({each.partition("|")[0] for each in met})
    states = sorted({each.partition("|")[2] for each in met})
    width = max(map(len, kinds), default=0)
    yield " " * width + "".join(f"{state:>18}" for state in states)
    for kind in kinds:
        row = "".join(f"{met[f'{kind}|{state}']:>18}" for state in states)
        yield f"{kind:<{width}}{row}"


def _sum(name: str, outcomes: Iterable[Outcome]) -> Counter[str]:
    total: Counter[str] = Counter()
    for each in outcomes:
        total.update(getattr(each, name))
    return total


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
