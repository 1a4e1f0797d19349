"""The places where a failure is kept from spreading, and how groups of failures are read.

Everything else lets exceptions fly: only what is named here (a connection of a peer, a background
refresh) may fail without taking the daemon along, and then it is counted and logged.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator

import structlog

_log = structlog.get_logger("zq.containment")


async def contained(what: str, work: Callable[[], Awaitable[None]]) -> bool:
    """Await *work*; an exception is logged with its trace and swallowed. True if it succeeded.

    Cancellation is never caught. Callers: one peer's connection, one background refresh.
    """
    try:
        await work()
    except Exception:  # noqa: BLE001 -- the containment point for work that others do not depend on
        _log.exception("contained failure", what=what)
        return False
    return True


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions inside a group, however nested; the exception itself if it is none."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
