"""The dead man's switch: wound up several times within its own time, taken back at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio

from zq_daemon.core.bus import Fault, MessageBus
from zq_daemon.engine.dead_mans_switch import CHANCES, DeadMansSwitch
from zq_daemon.engine.leverage import Leverage, set_leverage
from zq_daemon.model.event import HealthChanged
from zq_daemon.model.ids import AccountId, InstrumentId
from zq_daemon.ports.clock import NS_PER_S, VirtualClock
from zq_daemon.venue.interface import Acknowledged, Ambiguous, NotSent, Outcome, Refused, Request

pytestmark = pytest.mark.virtual

ACCOUNT = AccountId("venue.a")
TAKEN = Acknowledged(venue_order_id=None)


class Entry:
    """Writes down what is asked for and when; answers what it is told, then that it is taken."""

    def __init__(self, *answers: Outcome) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[float, Any]] = []

    def prepare_schedule_cancel(self, at_ns: int | None) -> Request:
        return self._request(at_ns)

    def prepare_leverage(
        self, instrument_id: InstrumentId, leverage: int, *, is_cross: bool
    ) -> Request:
        return self._request((instrument_id, leverage, is_cross))

    async def send(self, request: Request) -> Sequence[Outcome]:
        await trio.lowlevel.checkpoint()
        return [self.answers.pop(0) if self.answers else TAKEN]

    def _request(self, wanted: Any) -> Request:
        self.asked.append((trio.current_time(), wanted))
        return Request(
            kind="test",
            client_order_ids=(),
            nonce=1,
            expires_ns=None,
            action_hash=b"",
            payload=b"",
        )


def raised(fault: Fault) -> None:
    raise fault.error


async def run_for(seconds: float, entry: Entry, after_s: int) -> list[HealthChanged]:
    told: list[HealthChanged] = []
    bus = MessageBus(raised)
    bus.subscribe("system.health.*", told.append)
    switch = DeadMansSwitch(
        bus=bus,
        clock=VirtualClock(),
        entries={ACCOUNT: entry},  # type: ignore[dict-item]
        after_ns=after_s * NS_PER_S,
    )
    async with trio.open_nursery() as nursery:
        await nursery.start(switch.run)
        await trio.sleep(seconds)
        switch.close()
    return told


async def test_it_is_wound_up_several_times_within_its_time_and_taken_back_at_the_end() -> None:
    entry, clock = Entry(), VirtualClock()
    began_ns = clock.now_ns()
    told = await run_for(65, entry, 30)
    assert [at for at, _ in entry.asked] == [n * 30 / CHANCES for n in range(7)] + [65]
    wound = [at_ns for _, at_ns in entry.asked]
    assert wound.pop() is None
    assert wound == [began_ns + int(at + 30) * NS_PER_S for at, _ in entry.asked[:-1]]
    assert told == []


@pytest.mark.parametrize(
    "outcome", [NotSent(detail="why"), Ambiguous(detail="why"), Refused(code="other", text="why")]
)
async def test_what_keeps_it_from_being_wound_up_is_told_once_until_it_is(outcome: Outcome) -> None:
    told = await run_for(35, Entry(outcome, outcome), 30)
    assert [(each.healthy, each.reason) for each in told] == [(False, "why"), (True, "set")]


BTC = InstrumentId("venue.BTC")
FIVE = Leverage(instrument_id=BTC, times=5, is_cross=True)


async def test_leverage_is_set_again_when_nobody_knows_what_became_of_it() -> None:
    entry = Entry(Ambiguous(detail="late"), NotSent(detail="no link"))
    missed = await set_leverage(entry, [FIVE])  # type: ignore[arg-type]
    assert missed == ()
    assert [wanted for _, wanted in entry.asked] == [(BTC, 5, True)] * 3


async def test_leverage_that_is_refused_is_told_and_the_next_is_set() -> None:
    entry = Entry(Refused(code="other", text="at most 3"))
    ten = Leverage(instrument_id=InstrumentId("venue.ETH"), times=10, is_cross=False)
    missed = await set_leverage(entry, [FIVE, ten])  # type: ignore[arg-type]
    assert missed == (FIVE,)
    assert [wanted for _, wanted in entry.asked] == [(BTC, 5, True), ("venue.ETH", 10, False)]
