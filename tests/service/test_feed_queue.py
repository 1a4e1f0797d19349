import pytest
import trio
import trio.testing

from zq_daemon.runtime.feed_queue import FeedQueue


def _key(event: str) -> str | None:
    """Events such as 'book:BTC:1' are states with the key 'book:BTC'; 't1' is lossless."""
    return event.rpartition(":")[0] or None


async def _drain(queue: FeedQueue[str]) -> list[str]:
    return await queue.get(1_000)


async def test_keeps_the_order_while_there_is_room() -> None:
    queue = FeedQueue[str](10, _key)
    await queue.put(["t1", "book:BTC:1", "t2", "book:BTC:2"])
    assert await _drain(queue) == ["t1", "book:BTC:1", "t2", "book:BTC:2"]
    assert queue.statistics().conflated == 0


async def test_lossless_events_block_and_none_is_dropped() -> None:
    queue = FeedQueue[str](3, _key)
    sent = [f"t{number}" for number in range(50)]
    got: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.put, sent)
        await trio.testing.wait_all_tasks_blocked()
        assert queue.statistics().size == 3
        while len(got) < len(sent):
            got += await queue.get(2)
    assert got == sent
    assert queue.statistics().high_water == 3


async def test_states_are_conflated_to_the_latest_of_each_key_when_full() -> None:
    queue = FeedQueue[str](2, _key)
    await queue.put(["t1", "t2"])
    await queue.put([f"book:BTC:{number}" for number in range(100)])
    await queue.put(["book:ETH:1", "quote:BTC:1", "book:ETH:2"])
    assert await _drain(queue) == ["t1", "t2", "book:BTC:99", "quote:BTC:1", "book:ETH:2"]
    statistics = queue.statistics()
    assert statistics.conflated == 100
    assert statistics.accepted == 105


async def test_a_newer_state_never_overtakes_a_pending_older_one() -> None:
    queue = FeedQueue[str](2, _key)
    await queue.put(["t1", "t2", "book:BTC:1"])
    assert await queue.get(1) == ["t1"]
    await queue.put(["book:BTC:2", "t3"])
    assert await _drain(queue) == ["t2", "t3", "book:BTC:2"]


async def test_senders_who_never_let_up_cannot_keep_a_conflated_state_back() -> None:
    queue = FeedQueue[str](4, _key)
    got: list[str] = []
    async with trio.open_nursery() as nursery:
        for name in "ab":
            nursery.start_soon(queue.put, [f"{name}{number}" for number in range(50)])
        await trio.testing.wait_all_tasks_blocked()
        await queue.put(["book:BTC:1"])
        while len(got) < 101:
            got += await queue.get(2)
            await trio.testing.wait_all_tasks_blocked()
    assert got.index("book:BTC:1") == 4


async def test_blocked_senders_go_on_in_turn() -> None:
    queue = FeedQueue[str](1, _key)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.put, ["a1", "a2"])
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(queue.put, ["b1"])
        await trio.testing.wait_all_tasks_blocked()
        got = [*await queue.get(5)]
        await trio.testing.wait_all_tasks_blocked()
        got += await queue.get(5)
        await trio.testing.wait_all_tasks_blocked()
        got += await queue.get(5)
    assert sorted(got) == ["a1", "a2", "b1"]
    assert got[0] == "a1"


@pytest.mark.virtual
async def test_blocked_time_is_measured() -> None:
    queue = FeedQueue[str](1, _key)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(queue.put, ["t1", "t2"])
        await trio.sleep(3)
        await queue.get(1)
    assert queue.statistics().blocked_ns == 3_000_000_000


async def test_close_lets_the_rest_be_read_then_ends() -> None:
    queue = FeedQueue[str](5, _key)
    await queue.put(["t1", "t2"])
    queue.close()
    with pytest.raises(trio.ClosedResourceError):
        await queue.put(["t3"])
    assert await queue.get(1) == ["t1"]
    assert await queue.get(1) == ["t2"]
    with pytest.raises(trio.EndOfChannel):
        await queue.get(1)


async def test_close_wakes_a_waiting_consumer_and_a_blocked_sender() -> None:
    queue = FeedQueue[str](1, _key)
    ended: list[str] = []

    async def sender() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await queue.put(["t1", "t2"])
        ended.append("sender")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender)
        await trio.testing.wait_all_tasks_blocked()
        queue.close()
    assert ended == ["sender"]
