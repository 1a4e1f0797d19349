"""The dead man's switch: accounts whose orders are all cancelled at a time they chose.

Owns the times and how often they came. Never cancels: the exchange asks what is due.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define

from zq_daemon.venue.exchange.envelope import ActionError

MIN_AHEAD_MS = 5_000
MAX_TRIGGERS = 10
_DAY_MS = 86_400_000


@define
class _Switch:
    due_ms: int | None = None
    day: int = 0
    triggers: int = 0


class Schedules:
    """One switch for each account."""

    def __init__(self) -> None:
        self._switches: dict[str, _Switch] = {}

    def choose(self, account: str, due_ms: int | None, now_ms: int) -> None:
        """Cancel everything at *due_ms*, or not at all; ActionError: too soon or too often."""
        switch = self._switches.setdefault(account, _Switch())
        if due_ms is None:
            switch.due_ms = None
            return
        if due_ms < now_ms + MIN_AHEAD_MS:
            raise ActionError(
                "Scheduled cancel time too early, must be at least 5 seconds from now."
            )
        if _triggers(switch, now_ms) >= MAX_TRIGGERS:
            raise ActionError(f"Scheduled cancel triggered {MAX_TRIGGERS} times today already.")
        switch.due_ms = due_ms

    def due(self, now_ms: int) -> Sequence[str]:
        """The accounts whose time has come: once, the earliest first."""
        found = []
        for account, switch in self._switches.items():
            if switch.due_ms is not None and switch.due_ms <= now_ms:
                found.append((switch.due_ms, account))
                switch.due_ms = None
                switch.triggers = _triggers(switch, now_ms) + 1
                switch.day = now_ms // _DAY_MS
        return [account for _, account in sorted(found)]

    def next_due_ms(self) -> int | None:
        """When `due` has something."""
        dues = [each.due_ms for each in self._switches.values() if each.due_ms is not None]
        return min(dues, default=None)


def _triggers(switch: _Switch, now_ms: int) -> int:
    """How often it came today (UTC)."""
    return switch.triggers if switch.day == now_ms // _DAY_MS else 0
