"""When the service manager is told what: on a virtual clock, through the port's own memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import structlog
import trio
from structlog.testing import capture_logs

from zq_daemon.ports.notify import MemoryNotify, no_notify, system_notify
from zq_daemon.runtime.notify import STATUS_CHARS, Supervision, one_line

PERIOD_S = 10.0
NOT_FED = "the trading loop does not turn: watchdog not fed"
FED_AGAIN = "the trading loop turns again"


@pytest.fixture(autouse=True)
def _logging_untouched() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


class Loop:
    """A stand-in for the trading loop, which can be stopped from turning."""

    def __init__(self) -> None:
        self.asked = 0
        self._turning = trio.Event()
        self._turning.set()

    async def prove(self) -> None:
        self.asked += 1
        await self._turning.wait()

    def hang(self) -> None:
        self._turning = trio.Event()

    def go_on(self) -> None:
        self._turning.set()


def watched() -> tuple[MemoryNotify, Supervision, Loop]:
    notify = MemoryNotify(watchdog_us=round(3 * PERIOD_S * 1e6))
    return notify, Supervision(notify), Loop()


def fed(notify: MemoryNotify) -> int:
    return sum(message == {"WATCHDOG": "1"} for message in notify.sent)


@pytest.mark.virtual
async def test_the_watchdog_is_fed_every_third_of_its_interval() -> None:
    notify, supervision, loop = watched()
    with trio.move_on_after(4.5 * PERIOD_S):
        await supervision.feed_watchdog(loop.prove)
    assert fed(notify) == len(notify.sent) == loop.asked == 5  # at 0, 10, 20, 30 and 40 s


@pytest.mark.virtual
async def test_without_proof_nothing_is_fed_and_the_spell_is_told_once() -> None:
    notify, supervision, loop = watched()
    with capture_logs() as logs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervision.feed_watchdog, loop.prove)
            await trio.sleep(1.5 * PERIOD_S)
            loop.hang()
            await trio.sleep(7 * PERIOD_S)
            assert fed(notify) == 2
            assert loop.asked == 3  # one question waits: it is not asked again and again
            loop.go_on()
            await trio.sleep(0.1)
            assert fed(notify) > 2
            loop.hang()
            await trio.sleep(2.5 * PERIOD_S)
            nursery.cancel_scope.cancel()
    assert [line["event"] for line in logs] == [NOT_FED, FED_AGAIN, NOT_FED]
    assert {line["log_level"] for line in logs} == {"warning"}
    assert logs[1]["after_s"] == pytest.approx(6.5 * PERIOD_S)


@pytest.mark.virtual
async def test_slow_proof_is_proof() -> None:
    """A loop that turns late, but within the watchdog's whole interval, is not killed for it."""
    notify, supervision, _ = watched()

    async def slow() -> None:
        await trio.sleep(1.5 * PERIOD_S)

    with trio.move_on_after(9.5 * PERIOD_S):
        await supervision.feed_watchdog(slow)
    assert fed(notify) == 6


@pytest.mark.virtual
async def test_a_proof_that_fails_is_not_swallowed() -> None:
    notify, supervision, _ = watched()

    async def fail() -> None:
        raise trio.ClosedResourceError

    with pytest.RaisesGroup(trio.ClosedResourceError):
        await supervision.feed_watchdog(fail)
    assert not notify.sent


@pytest.mark.virtual
async def test_nobody_who_expects_no_sign_of_life_gets_one() -> None:
    loop = Loop()
    for notify in (MemoryNotify(), no_notify()):
        await Supervision(notify).feed_watchdog(loop.prove)
    assert loop.asked == 0


@pytest.mark.virtual
async def test_a_supervisor_that_wants_a_sign_every_microsecond_does_not_get_it() -> None:
    notify, loop = MemoryNotify(watchdog_us=1), Loop()
    with trio.move_on_after(0.98):
        await Supervision(notify).feed_watchdog(loop.prove)
    assert fed(notify) == 20


@pytest.mark.virtual
async def test_more_time_is_asked_for_only_within_the_bound() -> None:
    notify, supervision, _ = watched()
    doing = "replaying"
    began = trio.current_time()
    await supervision.keep_extending(lambda: doing, total_s=23)
    assert trio.current_time() - began == pytest.approx(23)
    asked_ms = [int(message["EXTEND_TIMEOUT_USEC"]) // 1000 for message in notify.sent]
    assert asked_ms == [20_000] * 3 + [left_s * 1000 for left_s in range(20, 0, -1)]
    assert all(message["STATUS"] == doing for message in notify.sent)


@pytest.mark.virtual
async def test_time_is_asked_for_until_the_start_is_over() -> None:
    notify, supervision, _ = watched()
    steps = ["replaying the journal", "asking the venue"]
    async with supervision.extending(lambda: steps[0], total_s=1000):
        await trio.sleep(1.5)
        del steps[0]
        await trio.sleep(1)
    count = len(notify.sent)
    await trio.sleep(60)
    assert len(notify.sent) == count
    said = [message["STATUS"] for message in notify.sent]
    assert said == ["replaying the journal"] * 2 + ["asking the venue"]


@pytest.mark.virtual
async def test_a_body_that_fails_stops_asking() -> None:
    notify, supervision, _ = watched()
    with pytest.RaisesGroup(ZeroDivisionError):
        async with supervision.extending(lambda: "x", total_s=1000):
            raise ZeroDivisionError
    count = len(notify.sent)
    await trio.sleep(60)
    assert len(notify.sent) == count


def test_what_is_said() -> None:
    notify = MemoryNotify()
    supervision = Supervision(notify)
    supervision.status("starting")
    supervision.ready("trading")
    supervision.extend(1500)
    supervision.stopping("3 orders to cancel")
    assert list(notify.sent) == [
        {"STATUS": "starting"},
        {"READY": "1", "STATUS": "trading"},
        {"EXTEND_TIMEOUT_USEC": "1500000"},
        {"STOPPING": "1", "STATUS": "3 orders to cancel"},
    ]


@pytest.mark.parametrize("ms", [0, -5])
def test_never_less_than_a_moment_is_asked_for(ms: int) -> None:
    notify = MemoryNotify()
    Supervision(notify).extend(ms)
    assert notify.sent[0]["EXTEND_TIMEOUT_USEC"] == "1000"


def test_readiness_that_was_lost_goes_with_the_next_message() -> None:
    notify = MemoryNotify()
    supervision = Supervision(notify)
    notify.deaf = True
    supervision.ready("trading")
    supervision.extend(1000)
    assert supervision.lost == 2
    notify.deaf = False
    supervision.status("still trading")
    supervision.status("later")
    assert list(notify.sent) == [{"READY": "1", "STATUS": "still trading"}, {"STATUS": "later"}]


@pytest.mark.virtual
async def test_a_sign_of_life_that_was_lost_is_not_given_later() -> None:
    notify, supervision, loop = watched()
    async with trio.open_nursery() as nursery:
        notify.deaf = True
        nursery.start_soon(supervision.feed_watchdog, loop.prove)
        await trio.sleep(0.5 * PERIOD_S)
        notify.deaf = False
        supervision.status("trading")
        nursery.cancel_scope.cancel()
    assert list(notify.sent) == [{"STATUS": "trading"}]


def test_the_supervisors_odd_settings_are_told() -> None:
    with capture_logs() as logs:
        Supervision(system_notify({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": "often"}))
    (line,) = logs
    assert line["log_level"] == "warning"
    assert "WATCHDOG_USEC='often'" in line["oddity"]


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("trading", "trading"),
        ("a\n  b\r\n\nc", "a; b; c"),
        ("\n", ""),
        ("red \x1b[31m", "red \\x1b[31m"),
        ("\udc80", "\\udc80"),
        ("x" * STATUS_CHARS, "x" * STATUS_CHARS),
        ("x" * STATUS_CHARS + "y", "x" * (STATUS_CHARS - 1) + "…"),
    ],
)
def test_a_status_is_one_bounded_line(text: str, status: str) -> None:
    assert one_line(text) == status


@pytest.mark.parametrize("say", [Supervision.status, Supervision.ready, Supervision.stopping])
def test_no_status_can_smuggle_an_assignment(say: Callable[[Supervision, str], None]) -> None:
    notify = MemoryNotify()
    say(Supervision(notify), "fine\nMAINPID=1\x85FDSTORE=1\u2028X=1")
    assert set(notify.sent[0]) <= {"STATUS", "READY", "STOPPING"}
    assert notify.sent[0]["STATUS"] == "fine; MAINPID=1; FDSTORE=1; X=1"
