import pytest
import trio

from zq_daemon.runtime.containment import contained, leaves
from zq_daemon.runtime.service import Cutter, ServiceEndedError, open_service


class Worker:
    """A service that works until its channel is closed, and then takes *drain_s* to finish."""

    def __init__(self, drain_s: float = 0.0) -> None:
        self.log: list[str] = []
        self.send, self._receive = trio.open_memory_channel[str](10)
        self._drain_s = drain_s

    async def run(self, *, task_status: trio.TaskStatus[str]) -> None:
        task_status.started("serving")
        async for item in self._receive:
            self.log.append(item)
        await trio.sleep(self._drain_s)
        self.log.append("drained")


@pytest.mark.virtual
async def test_yields_what_the_child_reported_and_drains_on_leaving() -> None:
    worker = Worker(drain_s=4)
    async with open_service(
        worker.run, name="w", stop=worker.send.close, grace_s=5, cutter=Cutter()
    ) as value:
        assert value == "serving"
        await worker.send.send("last order")
    assert worker.log == ["last order", "drained"]
    assert trio.current_time() == pytest.approx(4, abs=1e-6)


@pytest.mark.virtual
async def test_the_grace_is_a_deadline() -> None:
    worker = Worker(drain_s=100)
    async with open_service(
        worker.run, name="w", stop=worker.send.close, grace_s=5, cutter=Cutter()
    ):
        pass
    assert worker.log == []
    assert trio.current_time() == pytest.approx(5, abs=1e-6)


@pytest.mark.virtual
async def test_a_cancellation_from_outside_does_not_lose_the_last_item() -> None:
    worker = Worker(drain_s=1)
    with trio.CancelScope() as outside:
        async with open_service(
            worker.run, name="w", stop=worker.send.close, grace_s=5, cutter=Cutter()
        ):
            worker.send.send_nowait("last order")
            outside.cancel()
            await trio.sleep_forever()
    assert worker.log == ["last order", "drained"]


@pytest.mark.virtual
async def test_a_cut_ends_services_at_once_and_later_ones_too() -> None:
    cutter = Cutter()
    worker = Worker(drain_s=100)
    async with open_service(
        worker.run, name="w", stop=worker.send.close, grace_s=50, cutter=cutter
    ):
        cutter.cut()
    assert cutter.was_cut
    assert worker.log == []
    assert trio.current_time() == pytest.approx(0, abs=1e-6)


@pytest.mark.virtual
async def test_start_up_can_be_cancelled() -> None:
    async def never_ready(*, task_status: trio.TaskStatus[None]) -> None:
        await trio.sleep_forever()

    with trio.move_on_after(2) as patience:
        async with open_service(
            never_ready, name="w", stop=lambda: None, grace_s=50, cutter=Cutter()
        ):
            raise AssertionError("it never started")
    assert patience.cancelled_caught
    assert trio.current_time() == pytest.approx(2, abs=1e-6)


@pytest.mark.virtual
@pytest.mark.parametrize("before", [True, False])
async def test_a_cancellation_in_the_moment_of_the_start_ends_the_service(before: bool) -> None:
    """It has started, or is about to, and nobody is in the body yet to leave it."""
    worker, cutter, outside = Worker(), Cutter(), trio.CancelScope()

    async def run(*, task_status: trio.TaskStatus[str]) -> None:
        if before:
            outside.cancel()
        task_status.started("serving")
        outside.cancel()
        await worker.run(task_status=trio.TASK_STATUS_IGNORED)

    async def cut_what_hangs() -> None:
        await trio.sleep(30)
        cutter.cut()

    async with trio.open_nursery() as watching:
        watching.start_soon(cut_what_hangs)
        with outside:
            async with open_service(
                run, name="w", stop=worker.send.close, grace_s=5, cutter=cutter
            ):
                await trio.sleep_forever()
        watching.cancel_scope.cancel()
    assert outside.cancelled_caught
    assert trio.current_time() == pytest.approx(0, abs=1e-6)
    assert worker.log == ([] if before else ["drained"])


async def test_a_failing_child_cancels_the_body_and_is_raised() -> None:
    async def fails(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        raise OSError("disk gone")

    reached: list[str] = []
    with pytest.raises(ExceptionGroup) as caught:
        async with open_service(fails, name="w", stop=lambda: None, grace_s=5, cutter=Cutter()):
            await trio.sleep_forever()
            reached.append("after")
    assert [str(error) for error in leaves(caught.value)] == ["disk gone"]
    assert reached == []


async def test_a_child_that_returns_early_is_an_error() -> None:
    async def returns(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()

    with pytest.raises(ExceptionGroup) as caught:
        async with open_service(returns, name="w", stop=lambda: None, grace_s=5, cutter=Cutter()):
            await trio.sleep_forever()
    assert isinstance(next(leaves(caught.value)), ServiceEndedError)


async def test_contained_swallows_errors_but_not_cancellation() -> None:
    async def fails() -> None:
        raise ValueError("bad peer")

    async def works() -> None:
        await trio.lowlevel.checkpoint()

    assert await contained("peer", works)
    assert not await contained("peer", fails)
    with trio.CancelScope() as scope:
        scope.cancel()
        await contained("peer", trio.sleep_forever)
    assert scope.cancelled_caught
