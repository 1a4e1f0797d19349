"""Writes what strategies save, at the pace of the disk.

Owns what has been saved and not been written: of each strategy the latest, for only that counts,
and it waits while the journal has no room. So a stall of the disk costs at most one state for each
strategy in memory, however often they save. Nothing waits here while the disk keeps up. The host
hands over what its strategies save, and calls `write` as time passes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import structlog

from zq_daemon.journal.record import StrategySaved
from zq_daemon.model.check import told
from zq_daemon.model.ids import StrategyId

_MAX_INT = (1 << 63) - 1

_log = structlog.get_logger("zq.strategies")


class Saving:
    """What *strategies* save, on its way to the journal."""

    def __init__(
        self,
        append: Callable[[StrategySaved], None],
        has_room: Callable[[], bool],
        strategies: Collection[StrategyId],
    ) -> None:
        """*append* writes a record; *strategies* are those that may save, as they come and go."""
        self._append = append
        self._has_room = has_room
        self._strategies = strategies
        self._waiting: dict[StrategyId, StrategySaved] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def take(self, record: StrategySaved) -> None:
        """Write *record* now, or the latest of its strategy once there is room.

        Raises what *append* raises. What is no record of a strategy here is told and dropped.
        """
        if not self._is_sound(record):
            _log.error("not saved: no state of a strategy of this daemon", given=told(record))
            return
        self._waiting[record.strategy_id] = record
        self.write()

    def write(self) -> bool:
        """Write what waits, as far as there is room; whether nothing waits any more."""
        while self._waiting and self._has_room():
            self._append(self._waiting.pop(next(iter(self._waiting))))
        return not self._waiting

    def _is_sound(self, record: Any) -> bool:
        """Others than the context may send one: what is written must be read again."""
        return (
            type(record) is StrategySaved
            and type(record.strategy_id) is str
            and record.strategy_id in self._strategies
            and type(record.data) is dict
            and _is_count(record.version)
            and _is_count(record.ts_event_ns)
        )


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MAX_INT
