"""What came with a request, checked: the arguments of one command, each of its type and in bounds.

A client may send anything. What a command does not take is refused by name rather than ignored: a
misspelt `"strategi"` must not become "all strategies". Every verb reads its request through this.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from reprlib import Repr
from typing import Any

from zq_daemon.errors import ControlError

TEXT_CHARS = 200
"""Of a name or a reason; nobody means more."""
_SHOWN_CHARS = 64
_REPR = Repr()
"""Looks only so deep: what is nested far enough cannot be shown as a whole."""
_REPR.maxlevel = 2
_REPR.maxstring = _REPR.maxother = _SHOWN_CHARS


class BadRequest(ControlError):
    """The request itself is wrong: the same one will never be carried out."""


class Arguments:
    """The arguments of one request; BadRequest for any that the command does not take."""

    def __init__(self, request: Mapping[str, Any], takes: Collection[str] = ()) -> None:
        self._values = {name: value for name, value in request.items() if name != "command"}
        unknown = [name for name in self._values if name not in takes]
        if unknown:
            taken = f"it takes {', '.join(takes)}" if takes else "it takes none"
            raise BadRequest(f"unknown argument {shown(unknown[0])}; {taken}")

    def text(self, name: str) -> str | None:
        """A line of printable text, not empty; None if it was not given."""
        value = self._values.get(name)
        if value is None:
            return None
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            raise BadRequest(f"{name}: expected a line of text, got {shown(value)}")
        if len(value) > TEXT_CHARS:
            raise BadRequest(f"{name}: {len(value)} characters; at most {TEXT_CHARS} are taken")
        return value

    def choice(self, name: str, choices: Collection[str], default: str) -> str:
        """One of *choices*."""
        value = self._values.get(name, default)
        if not isinstance(value, str) or value not in choices:
            expected = ", ".join(choices)
            raise BadRequest(f"{name}: expected one of {expected}, got {shown(value)}")
        return value

    def flag(self, name: str) -> bool:
        """True or false; false if it was not given."""
        value = self._values.get(name, False)
        if type(value) is not bool:
            raise BadRequest(f"{name}: expected true or false, got {shown(value)}")
        return value

    def count(self, name: str, *, most: int, default: int) -> int:
        """A whole number from 1 to *most*."""
        value = self._values.get(name, default)
        if type(value) is not int or not 1 <= value <= most:
            raise BadRequest(
                f"{name}: expected a whole number from 1 to {most}, got {shown(value)}"
            )
        return value

    def seconds(self, name: str, *, most: float) -> float | None:
        """Seconds from 0 to *most*; None if they were not given."""
        value = self._values.get(name)
        if value is None:
            return None
        if type(value) not in (int, float) or not 0 <= value <= most:
            raise BadRequest(f"{name}: expected seconds from 0 to {most:g}, got {shown(value)}")
        return float(value)


def shown(value: Any) -> str:
    """*value*, which may be anything, short and printable enough for an error."""
    text = _REPR.repr(value)
    return text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 1]}…"
