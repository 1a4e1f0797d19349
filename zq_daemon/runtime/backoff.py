"""How long to wait before the next attempt: doubling with jitter, reset by a healthy spell."""

from __future__ import annotations

from zq_daemon.ports.rng import Rng

_JITTER = 0.25


class Backoff:
    """Delays of *base_ms*, doubling up to *max_ms*, each shortened by a random part up to 25 %.

    The jitter only ever shortens, so that *max_ms* is a bound, and keeps many endpoints that lost
    the same host from coming back in the same millisecond.
    """

    def __init__(self, base_ms: int, max_ms: int, rng: Rng) -> None:
        self._base_ms = base_ms
        self._max_ms = max_ms
        self._rng = rng
        self._attempts = 0

    @property
    def attempts(self) -> int:
        """How many delays were handed out since the last reset."""
        return self._attempts

    def next_delay_ms(self) -> int:
        """The delay before the coming attempt, in milliseconds."""
        doublings = min(self._attempts, 32)
        self._attempts += 1
        full = min(self._base_ms << doublings, self._max_ms)
        return max(1, round(full * (1 - _JITTER * self._rng.random())))

    def reset(self) -> None:
        """The last connection held long enough to count as healthy."""
        self._attempts = 0
