"""How long a strategy waits after a refusal before it asks again, in ticks or bars of its own."""

from __future__ import annotations

_LONGEST = 64
"""Turns let pass at most, however often something was refused in a row."""


class Pause:
    """A number of turns to let pass: 1, 2, 4 … after each refusal in a row."""

    def __init__(self) -> None:
        self._length = self._left = 0

    def begin(self) -> None:
        """Something was refused: wait twice as long as the last time."""
        self._length = self._left = min(max(1, 2 * self._length), _LONGEST)

    def passes(self) -> bool:
        """Whether this turn is let pass; call it once each turn."""
        if not self._left:
            return False
        self._left -= 1
        return True

    def forget(self) -> None:
        """Something went through: the next refusal counts as the first (a wait goes on)."""
        self._length = 0
