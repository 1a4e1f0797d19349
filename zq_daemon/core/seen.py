"""Which fills and fundings were taken already: venues repeat them, and so does a recovery.

Owns the keys and their bound. The reader of reports asks it about everything that comes in; replay
fills it from the journal.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

from zq_daemon.model.event import FundingPaid
from zq_daemon.model.fill import Fill

REMEMBERED = 65_536
"""Fills and fundings whose repetition is noticed: many times what a venue repeats."""

Key = tuple[str, ...]


def key_of(report: Fill | FundingPaid) -> Key:
    """What makes a fill or a funding the same: one trade of two orders of ours is two fills."""
    if isinstance(report, Fill):
        return report.account_id, report.instrument_id, report.trade_id, report.side.value
    return report.account_id, report.instrument_id, str(report.ts_event_ns)


class Seen:
    """The last *limit* keys, oldest first."""

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._limit = limit
        self._keys: OrderedDict[Key, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, report: Fill | FundingPaid) -> bool:
        return key_of(report) in self._keys

    def keys(self) -> Iterable[Key]:
        """Everything remembered, oldest first."""
        return self._keys.keys()

    def add(self, report: Fill | FundingPaid) -> bool:
        """Remember *report*; False if it was known."""
        return self.add_key(key_of(report))

    def add_key(self, key: Key) -> bool:
        """Remember *key*; False if it was known."""
        if key in self._keys:
            return False
        self._keys[key] = None
        if len(self._keys) > self._limit:
            self._keys.popitem(last=False)
        return True
