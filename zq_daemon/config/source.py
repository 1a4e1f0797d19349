"""Where a mapping of settings came from, and how a problem in it is told to the operator.

Owns the wording frame `file:line: key.path: reason`, for the configuration file and for anything
else structured out of it (a strategy's parameters). Never repeats the value of a key that may hold
a secret. Called by `config.structure`, `config.load` and whoever structures parameters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Self

from attrs import Factory, evolve, frozen

from zq_daemon.config.locate import KeyPath
from zq_daemon.errors import ConfigError

MAX_PROBLEMS = 50
"""How many problems one message lists."""

_MAX_SHOWN = 60
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SECRET_KEY = re.compile(
    r"key|secret|priv|passw|passphrase|token|signature|mnemonic|credential", re.IGNORECASE
)
_SECRET_VALUE = re.compile(r"(?:0x)?[0-9a-fA-F]{64,}|[A-Za-z0-9+/_=-]{44,}|.*://[^/]*@.*")


@frozen(kw_only=True)
class Source:
    """A file, or a part of one: *prefix* is the part's key path, *lines* are the whole file's."""

    name: str
    lines: Mapping[KeyPath, int] = Factory(dict)
    prefix: KeyPath = ()

    def at(self, *keys: str | int) -> Self:
        """The part of this source under *keys*, e.g. `source.at("strategies", 0, "params")`."""
        return evolve(self, prefix=(*self.prefix, *keys))

    def line(self, path: KeyPath) -> int | None:
        """The line of *path* (below the prefix), else of what encloses it; None if unknown."""
        full = (*self.prefix, *path)
        while full and full not in self.lines:
            full = full[:-1]
        return self.lines.get(full)


@frozen
class Problem:
    """What is wrong with the key at *path* (relative to its source)."""

    path: KeyPath
    reason: str


def config_error(problems: Iterable[Problem], source: Source) -> ConfigError:
    """One error that lists *problems* in the order of the file, a line each."""
    ordered = sorted(problems, key=lambda problem: source.line(problem.path) or 0)
    told = [_tell(problem, source) for problem in ordered[:MAX_PROBLEMS]]
    if len(ordered) > MAX_PROBLEMS:
        told.append(f"{source.name}: and {len(ordered) - MAX_PROBLEMS} more problems")
    return ConfigError("\n".join(told))


def render_path(path: KeyPath) -> str:
    """`strategies[0].params.fast`; keys that need quotes in TOML are quoted, and made printable."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            name = key if _BARE_KEY.fullmatch(key) else json.dumps(key)
            text += f".{name}" if text else name
    return text


def shown(value: Any) -> str:
    """*value* as a message may repeat it: its kind, and short harmless text."""
    match value:
        case bool():
            return "true" if value else "false"
        case str() if _SECRET_VALUE.fullmatch(value):
            return "a string that is not shown"
        case str():
            cut = value if len(value) <= _MAX_SHOWN else f"{value[:_MAX_SHOWN]}..."
            return f"the string {cut!r}"
        case Mapping():
            return "a table"
        case list() | tuple():
            return "an array"
    text = str(value)
    if len(text) > _MAX_SHOWN:
        return "a very long number"
    return text


def is_secret_key(key: str | int) -> bool:
    """Whether *key* is named like something that holds a secret."""
    return isinstance(key, str) and _SECRET_KEY.search(key) is not None


def _tell(problem: Problem, source: Source) -> str:
    line = source.line(problem.path)
    where = source.name if line is None else f"{source.name}:{line}"
    path = render_path((*source.prefix, *problem.path))
    return f"{where}: {path}: {problem.reason}" if path else f"{where}: {problem.reason}"
