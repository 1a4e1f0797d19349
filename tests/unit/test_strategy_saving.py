"""A disk that is too slow for what strategies save: of each only the latest waits."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from structlog.testing import capture_logs

from tests.service.strategy_rig import Rig, config
from zq_daemon.journal.record import StrategySaved
from zq_daemon.model.ids import StrategyId
from zq_daemon.strategy.base import Strategy
from zq_daemon.strategy.saving import Saving

ONE, TWO = StrategyId("one"), StrategyId("two")


class Idle(Strategy):
    """Does nothing of its own."""


class Disk:
    """A journal with *room* for so many records."""

    def __init__(self, room: int = 0) -> None:
        self.room = room
        self.written: list[tuple[str, int]] = []
        self.saving = Saving(self._append, lambda: self.room > 0, {ONE, TWO})

    def _append(self, record: StrategySaved) -> None:
        self.room -= 1
        self.written.append((record.strategy_id, record.version))


def record(strategy_id: StrategyId, version: int) -> StrategySaved:
    return StrategySaved(strategy_id=strategy_id, version=version, data={}, ts_event_ns=1)


def test_what_has_room_is_written_at_once() -> None:
    disk = Disk(room=3)
    disk.saving.take(record(ONE, 1))
    disk.saving.take(record(ONE, 2))
    assert disk.written == [("one", 1), ("one", 2)]
    assert len(disk.saving) == 0
    assert disk.saving.write()


def test_of_each_strategy_the_latest_waits_for_room() -> None:
    disk = Disk()
    for version in range(1_000):
        disk.saving.take(record(ONE, version))
        disk.saving.take(record(TWO, version))
    assert disk.written == []
    assert len(disk.saving) == 2
    assert not disk.saving.write()
    disk.room = 1
    assert not disk.saving.write()
    assert disk.written == [("one", 999)]
    disk.room = 5
    assert disk.saving.write()
    assert disk.written == [("one", 999), ("two", 999)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"strategy_id": "nobody"},
        {"strategy_id": None},
        {"strategy_id": ["one"]},
        {"version": None},
        {"version": -1},
        {"version": True},
        {"data": None},
        {"data": [1]},
        {"ts_event_ns": 1.5},
        {"ts_event_ns": 1 << 63},
    ],
)
def test_what_could_not_be_read_again_is_told_and_not_written(wrong: dict[str, Any]) -> None:
    disk = Disk(room=3)
    with capture_logs() as logged:
        disk.saving.take(evolve(record(ONE, 1), **wrong))
    assert disk.written == []
    assert len(disk.saving) == 0
    assert [line["log_level"] for line in logged] == ["error"]


def test_the_host_writes_what_waited_as_time_passes() -> None:
    rig = Rig()
    rig.load(config(Idle))
    rig.host.start()
    context = rig.strategy("mine").context
    rig.has_room = False
    for number in range(10):
        context.save_state(1, {"number": number})
    rig.pass_time(100)
    assert rig.saved == []
    assert not rig.host.write_saved()
    assert context.saved_state.data == {"number": 9}
    rig.has_room = True
    rig.pass_time(100)
    assert [each.data for each in rig.saved] == [{"number": 9}]
    assert rig.host.write_saved()
