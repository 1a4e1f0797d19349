"""Order entry of which nothing is asked: what a double does not answer fails its test."""

from __future__ import annotations

from typing import Any

from zq_daemon.venue.interface import RequestKind


class UnaskedEntry:
    """The `OrderEntry` that doubles begin with; there is always room, and no other way."""

    has_other_way = False

    def _unasked(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    resume = send = attach = detach = resolve = _unasked
    prepare_submit = prepare_cancel = prepare_modify = _unasked
    prepare_schedule_cancel = prepare_leverage = _unasked

    def why_not_now(self, kind: RequestKind, count: int = 1) -> str | None:
        return None
