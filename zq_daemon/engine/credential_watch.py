"""Looks once a day whether the key still signs for the account, and warns before it expires.

Owns that alert: in the log, on the bus as the health of `credentials`, and in `status`. It changes
nothing: orders that a key may not sign are refused by the venue. The daemon runs it as a task.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import structlog
import trio

from zq_daemon.core.bus import MessageBus
from zq_daemon.engine.health import tell_health
from zq_daemon.errors import CredentialError, DecodeError, LinkError, LinkRefused
from zq_daemon.ports.clock import NS_PER_S, Clock
from zq_daemon.venue.interface import Credentials

_COMPONENT = "credentials"
_DAY_S = 86_400
_RETRY_S = 3_600

_log = structlog.get_logger("zq.credentials")


class CredentialWatch:
    """What the venue said last of who signs for whom."""

    def __init__(
        self,
        ask: Callable[[], Awaitable[Credentials | None]],
        bus: MessageBus,
        clock: Clock,
        *,
        known: Credentials | None,
        warning_days: int,
    ) -> None:
        """*known* is what was found at the start; *warning_days* before its end a key is told."""
        self._ask = ask
        self._bus = bus
        self._clock = clock
        self._known = known
        self._warning_days = warning_days
        self.problem = ""

    async def run(self) -> None:
        """Tell what is known, and ask again each day, until cancelled."""
        if self._known is None:
            return
        self._tell(self._oddity())
        pause_s = _DAY_S
        while True:
            await trio.sleep(pause_s)
            pause_s = _DAY_S if await self._look() else _RETRY_S

    def status(self) -> dict[str, Any] | None:
        """What `status` shows; None without an account."""
        known = self._known
        if known is None:
            return None
        return {
            "account": known.account,
            "signer": known.signer,
            "relation": known.relation,
            "days_left": self._days_left(known),
            "problem": self.problem,
        }

    async def _look(self) -> bool:
        """Ask once; False when there was no answer."""
        try:
            self._known = await self._ask() or self._known
        except CredentialError as error:
            self._tell(str(error))
        except (LinkError, LinkRefused, DecodeError) as error:
            _log.warning("credentials not checked", reason=str(error))
            return False
        else:
            self._tell(self._oddity())
        return True

    def _oddity(self) -> str:
        known = self._known
        left = None if known is None else self._days_left(known)
        if known is None or left is None or left > self._warning_days:
            return ""
        return (
            f"the agent {known.signer} of {known.account} expires in {left:g} days: approve "
            "another one and restart the daemon with its key"
        )

    def _days_left(self, known: Credentials) -> float | None:
        if known.valid_until_ns is None:
            return None
        left_ns = known.valid_until_ns - self._clock.now_ns()
        return round(left_ns / (_DAY_S * NS_PER_S), 1)

    def _tell(self, problem: str) -> None:
        """Each day while there is one, and once that there is none any more."""
        if problem:
            _log.warning("credentials", problem=problem)
        changed, self.problem = problem != self.problem, problem
        if changed:
            reason = problem or "the key signs for the account"
            tell_health(self._bus, self._clock, _COMPONENT, reason, healthy=not problem)
