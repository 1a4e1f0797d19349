"""Pages through the account's fills by time, so that none is lost between two pages.

Owns where the next page begins and when to stop. It asks through the function it is given (the
adapter's, or a test's) and keeps nothing.

The venue answers with the oldest fills first, at most 2,000 of them, and has the last 10,000. A
page may end in the middle of a millisecond: the next one begins with that millisecond again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from zq_daemon.model.fill import Fill
from zq_daemon.model.report import FillHistory
from zq_daemon.ports.clock import NS_PER_MS

RETAINED = 10_000
"""The venue keeps so many fills of an account: with as many told, older ones may be gone."""
SURELY_SHORT = 500
"""The venue documents 2,000 fills a page, and 500 of anything else by time: fewer is the end."""
MAX_PAGES = 40

Page = Callable[[int], Awaitable[Sequence[Fill]]]
"""The oldest fills at or after a time in milliseconds."""


async def load_history(page: Page, start_ms: int) -> FillHistory:
    """All fills at or after *start_ms*; whatever *page* raises ends it."""
    known: dict[tuple[object, ...], Fill] = {}
    complete = False
    skipped = False
    for _ in range(MAX_PAGES):
        fills = await page(start_ms)
        for fill in fills:
            known.setdefault((fill.instrument_id, fill.trade_id, fill.side), fill)
        if len(fills) < SURELY_SHORT:
            complete = True
            break
        last_ms = max(fill.ts_event_ns for fill in fills) // NS_PER_MS
        if last_ms > start_ms:
            start_ms = last_ms
        else:  # one millisecond holds more than a page: the rest of it cannot be had
            start_ms, skipped = start_ms + 1, True
    return FillHistory(
        fills=tuple(sorted(known.values(), key=lambda fill: fill.ts_event_ns)),
        complete=complete and not skipped and len(known) < RETAINED,
    )
