"""The daily look at who signs: what it tells, and when."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from structlog.testing import capture_logs

from zq_daemon.core.bus import MessageBus
from zq_daemon.engine.credential_watch import CredentialWatch
from zq_daemon.errors import CredentialError, LinkError
from zq_daemon.model.event import HealthChanged
from zq_daemon.ports.clock import NS_PER_S, VirtualClock
from zq_daemon.venue.interface import Credentials

pytestmark = pytest.mark.virtual

DAY_S = 86_400


class Rig:
    """A watch whose venue says *known*, or raises *error*."""

    def __init__(self, days: float | None) -> None:
        self.clock = VirtualClock()
        self.known = self._until(days)
        self.error: Exception | None = None
        self.asked: list[float] = []
        self.events: list[HealthChanged] = []
        bus = MessageBus(lambda fault: None)
        bus.subscribe("system.health.credentials", self.events.append)
        self.watch = CredentialWatch(self._ask, bus, self.clock, known=self.known, warning_days=14)

    def extend(self, days: float) -> None:
        self.known = self._until(days)

    def _until(self, days: float | None) -> Credentials:
        end_ns = None if days is None else self.clock.now_ns() + round(days * DAY_S) * NS_PER_S
        return Credentials(account="0xa", signer="0xb", relation="agent", valid_until_ns=end_ns)

    async def _ask(self) -> Credentials:
        await trio.lowlevel.checkpoint()
        self.asked.append(trio.current_time())
        if self.error is not None:
            raise self.error
        return self.known


@asynccontextmanager
async def watched(days: float | None) -> AsyncIterator[Rig]:
    rig = Rig(days)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.watch.run)
        await trio.sleep(1)
        yield rig
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("days", [None, 14.2, 180])
async def test_a_key_that_is_good_for_long_is_not_told(days: float | None) -> None:
    async with watched(days) as rig:
        assert rig.events == []
        assert rig.watch.problem == ""
        status = rig.watch.status()
        assert status is not None
        assert (status["signer"], status["days_left"]) == ("0xb", days)


async def test_a_key_that_expires_soon_is_told_at_the_start_and_then_daily() -> None:
    with capture_logs() as logs:
        async with watched(3) as rig:
            await trio.sleep(2 * DAY_S)
    assert [round(each["problem"].count("expires")) for each in logs] == [1, 1, 1]
    assert "expires in 3 days" in logs[0]["problem"]
    assert "expires in 1 days" in logs[2]["problem"]
    assert {each["log_level"] for each in logs} == {"warning"}
    assert [event.healthy for event in rig.events] == [False] * 3  # another number each day
    assert len(rig.asked) == 2


async def test_a_key_comes_near_its_end_while_the_daemon_runs_and_is_extended() -> None:
    async with watched(16) as rig:
        await trio.sleep(DAY_S)
        assert rig.events == []
        await trio.sleep(DAY_S)
        assert [event.healthy for event in rig.events] == [False]
        rig.extend(180)
        await trio.sleep(DAY_S)
        assert [event.healthy for event in rig.events] == [False, True]
        assert rig.watch.problem == ""


async def test_a_key_that_was_revoked_is_told() -> None:
    async with watched(180) as rig:
        rig.error = CredentialError("0xb is no agent")
        await trio.sleep(DAY_S)
        assert [event.reason for event in rig.events] == ["0xb is no agent"]
        rig.error = None
        await trio.sleep(DAY_S)
        assert rig.events[-1].healthy


async def test_a_venue_that_does_not_answer_is_asked_again_within_the_hour() -> None:
    async with watched(180) as rig:
        rig.error = LinkError("503")
        await trio.sleep(DAY_S + 3 * 3_600)
        assert [round(each / 3_600) for each in rig.asked] == [24, 25, 26, 27]
        assert rig.events == []


async def test_without_an_account_there_is_nothing_to_watch() -> None:
    rig = Rig(None)
    bus = MessageBus(lambda fault: None)
    watch = CredentialWatch(rig._ask, bus, rig.clock, known=None, warning_days=14)
    await watch.run()
    assert watch.status() is None
    assert rig.asked == []
