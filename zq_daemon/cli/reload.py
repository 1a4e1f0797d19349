"""`zq-daemon reload`: has the running daemon read its configuration again; says what came of it.

The daemon decides and answers `{"applied": [...], "needs_restart": [...]}`, key paths both, or
`{"refused": "..."}`, the located problems; what is no such answer is never taken for a success.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeGuard

from zq_daemon.cli.status import ask
from zq_daemon.errors import ConfigError, ControlError


def reload_daemon(path: Path) -> str:
    """What the daemon listening at *path* took over and what needs a restart, for people.

    Raises ConfigError with the problems of the file, in which case nothing changed; ControlError
    when no daemon answers, or when it cannot reload now.
    """
    result = ask(path, "reload")
    refused, applied, restart = (_part(result, name) for name in _PARTS)
    if isinstance(refused, str) and refused:
        raise ConfigError(f"{_printable(refused)}\nnothing changed: the daemon goes on as it was")
    if not (_are_names(applied) and _are_names(restart)):
        raise ControlError(f"the daemon at {path} did not say what it reloaded; see its log")
    if not applied and not restart:
        return "reloaded: nothing differs"
    lines = [f"applied: {name}" for name in applied]
    lines += [f"needs a restart: {name}" for name in restart]
    return _printable("\n".join(lines))


_PARTS = ("refused", "applied", "needs_restart")


def _part(result: Any, name: str) -> Any:
    return result.get(name) if isinstance(result, dict) else None


def _are_names(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _printable(text: str) -> str:
    """A terminal would obey control characters; lines stay lines."""
    lines = text.split("\n")
    return "\n".join(line if line.isprintable() else repr(line)[1:-1] for line in lines)
