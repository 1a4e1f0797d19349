"""`kill -9` at any moment, again and again, at an exchange that does everything wrong.

One exchange and one state folder live through all lives of a daemon: real processes and sockets,
a real disk. Between the lives, and in them, the faults of the exchange change. Now and then, and
at the end, all is held still and compared, to the last digit of fees, fundings and cash: nothing
lost, nothing doubled. `ZQ_KILLS` is how many deaths, `ZQ_KILL_SEED` draws them.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve, frozen

from tests.harness.agreement import Venue, Written, audit, look, wait_agreement
from tests.harness.floor import Floor, Terms, open_floor
from tests.harness.killer import Killer, Life

KILLS = int(os.environ.get("ZQ_KILLS", "4"))
SEED = int(os.environ.get("ZQ_KILL_SEED", "1"))
_COMPARED_EVERY = 10
_FUNDING_MS = max(5_000, 25 * KILLS)
"""Often, but so seldom that one answer of the exchange holds all that was paid."""
_TRADING = Terms(
    orders=8,
    offset_bps="0.8",
    churn=3,
    take=4,
    private=("orderUpdates", "userFills", "userFundings"),
    extra="reconcile_interval_ms = 1000",
    venue="post_timeout_ms = 1500\nhttp_timeout_ms = 1500",
    risk='max_daily_loss = "off"',
)
_STILL = evolve(_TRADING, still=True)


@pytest.mark.patience(60 + 15 * KILLS)
async def test_whenever_it_is_killed_nothing_is_lost_and_nothing_doubled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--funding-interval-ms", str(_FUNDING_MS))
    async with open_floor(tmp_path, *options, seed=SEED) as floor:
        killer, began = Killer(floor, SEED), trio.current_time()
        while (done := killer.tally.kills) < KILLS:
            await _one_more(floor, killer)
            if killer.tally.kills > done and killer.tally.kills % _COMPARED_EVERY == 0:
                _tell(capsys, killer, await _compare(floor), trio.current_time() - began)
        compared = await _compare(floor)
        _tell(capsys, killer, compared, trio.current_time() - began)
        assert await floor.exchange.stop() == 0
    assert compared.venue.fills
    assert killer.tally.codes.keys() <= {-signal.SIGKILL, 0, 3, 69}


async def _one_more(floor: Floor, killer: Killer) -> None:
    life = killer.draw()
    floor.configure(_TRADING)
    try:
        await killer.live(life)
        await look(floor)
    except AssertionError as error:
        error.add_note(_where(killer, life))
        raise


@frozen(kw_only=True)
class _Compared:
    """What both sides had at rest, and how often each order was seen on its way there."""

    venue: Venue
    written: Written
    sent: Counter[str]

    def lost(self) -> int:
        """Orders and fills that the exchange has and the journal has not."""
        orders = self.venue.statuses.keys() - self.written.submits().keys()
        return len(orders) + len(self.venue.fills.keys() - self._booked().keys())

    def doubled(self) -> int:
        """Orders that were sent, and fills that were booked, more than once."""
        counts = (*self.sent.values(), *self._booked().values())
        return sum(count - 1 for count in counts)

    def _booked(self) -> Counter[str]:
        return Counter(f"{each.trade_id}/{each.venue_order_id}" for each in self.written.fills)


async def _compare(floor: Floor) -> _Compared:
    """A daemon as it is shipped, at an exchange without faults, finds everything in order."""
    floor.configure(_STILL)
    async with floor.daemon() as daemon:
        await daemon.wait_event("running")
        venue = await wait_agreement(floor, money=True)
        written = await audit(floor)
        assert await daemon.stop() == 0
    return _Compared(venue=venue, written=written, sent=Counter(floor.wire.sent()))


def _tell(
    capsys: pytest.CaptureFixture[str],
    killer: Killer,
    compared: _Compared,
    elapsed_s: float,
) -> None:
    tally, venue, written = killer.tally, compared.venue, compared.written
    ends = Counter(venue.statuses.values())
    lines = {
        "kills": f"{tally.kills} (seed {SEED}), at points {_listed(tally.points)}",
        "lives": f"{_listed(tally.lives)}; exit codes {_listed(tally.codes)}; "
        f"{tally.never_ran} never ran",
        "orders": f"{len(written.submits())} meant, {len(venue.statuses)} arrived: {_listed(ends)}",
        "fills": f"{len(venue.fills)}",
        "fundings": f"{len(written.fundings)}",
        "faults": _listed(tally.faults),
        "lost, doubled": f"{compared.lost()}, {compared.doubled()}",
        "time": f"{elapsed_s:.0f} s",
    }
    told = "\n".join(f"{name + ':':<15}{text}" for name, text in lines.items())
    with capsys.disabled():
        sys.stdout.write(f"\n{told}\n")


def _listed(counts: Any) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items())) or "none"


def _where(killer: Killer, life: Life) -> str:
    return f"seed {SEED}, after {killer.tally.kills} kills: {life}"
