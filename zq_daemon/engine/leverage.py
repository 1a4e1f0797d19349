"""Sets the leverage of positions as configured, before strategies start.

Owns nothing. What the venue refuses is told and stays as it was there: the risk limits of the
daemon do not rest on it. The daemon calls it once a start.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog
import trio
from attrs import frozen

from zq_daemon.model.ids import InstrumentId
from zq_daemon.venue.interface import Acknowledged, OrderEntry, Refused

_TRIES = 3
_PAUSE_S = 1.0

_log = structlog.get_logger("zq.leverage")


@frozen(kw_only=True)
class Leverage:
    """How many times the margin a position in an instrument may be; *is_cross*: shared margin."""

    instrument_id: InstrumentId
    times: int
    is_cross: bool


async def set_leverage(entry: OrderEntry, wanted: Iterable[Leverage]) -> tuple[Leverage, ...]:
    """Have the venue use *wanted*; those that it does not, for all we know."""
    return tuple([each for each in wanted if not await _set(entry, each)])


async def _set(entry: OrderEntry, wanted: Leverage) -> bool:
    """Setting it twice does no harm, so that an unknown outcome is simply tried again."""
    said: object = None
    for attempt in range(_TRIES):
        if attempt:
            await trio.sleep(_PAUSE_S)
        request = entry.prepare_leverage(
            wanted.instrument_id, wanted.times, is_cross=wanted.is_cross
        )
        (said,) = await entry.send(request)
        if isinstance(said, Acknowledged):
            return True
        if isinstance(said, Refused):
            break
    _log.error(
        "leverage not set: set it at the venue, or change the configuration",
        instrument=wanted.instrument_id,
        leverage=wanted.times,
        margin="cross" if wanted.is_cross else "isolated",
        detail=str(said),
    )
    return False
