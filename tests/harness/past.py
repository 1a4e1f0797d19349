"""All that an exchange ever told of our ended orders and of fills, beyond the page it repeats.

It tells the latest 2,000 of each. Asked often enough, every page has something of the one before,
and so nothing is missing in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

PAGE = 2_000


class Past:
    """Pages put together; rows are as the exchange tells them, ordered by id."""

    def __init__(self) -> None:
        self._ended: dict[int, Any] = {}
        self._fills: dict[tuple[int, int], Any] = {}

    def orders(self, page: Sequence[Any]) -> list[Any]:
        """All of now and of the past with *page*, the answer to `historicalOrders`."""
        live = {row["order"]["oid"]: row for row in page if row["status"] == "open"}
        ended = {row["order"]["oid"]: row for row in page if row["order"]["oid"] not in live}
        _require_overlap("orders", page, self._ended, ended)
        self._ended |= ended
        every = live | self._ended
        return [every[oid] for oid in sorted(every)]

    def fills(self, page: Sequence[Any]) -> list[Any]:
        """All fills with *page*, the answer to `userFills`."""
        told = {(row["tid"], row["oid"]): row for row in page}
        _require_overlap("fills", page, self._fills, told)
        self._fills |= told
        return [self._fills[key] for key in sorted(self._fills)]


def _require_overlap(
    what: str, page: Sequence[Any], known: Iterable[Any], told: Iterable[Any]
) -> None:
    if len(page) >= PAGE and not set(known) & set(told):
        raise AssertionError(f"the exchange does not tell all {what} any more: it was asked late")
