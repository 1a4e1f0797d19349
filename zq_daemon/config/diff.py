"""Compares two configurations: what a running daemon can take over, and what needs a restart.

Pure; called on SIGHUP. Reloadable are the risk limits, the log level, the tick interval, and
of strategies their parameters and `on_fault`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import attrs
from attrs import frozen

from zq_daemon.config.locate import KeyPath
from zq_daemon.config.schema import DaemonConfig
from zq_daemon.config.source import render_path

_RELOADABLE = re.compile(
    r"tick_interval_ms|risk\..*|log\.level|strategies\[\d+\]\.(?:on_fault|params(?:\..*)?)",
    re.DOTALL,
)


@frozen
class ConfigDiff:
    """The key paths that differ, in the order of the schema."""

    reloadable: tuple[str, ...]
    needs_restart: tuple[str, ...]

    def without(self, strategies: Collection[int]) -> ConfigDiff:
        """The same if the *strategies* with these numbers cannot take parameters over."""
        tables = tuple(f"strategies[{number}]." for number in strategies)
        stuck = tuple(path for path in self.reloadable if path.startswith(tables))
        reloadable = tuple(path for path in self.reloadable if path not in stuck)
        return ConfigDiff(reloadable, self.needs_restart + stuck)

    def __bool__(self) -> bool:
        return bool(self.reloadable or self.needs_restart)


def diff_config(old: DaemonConfig, new: DaemonConfig) -> ConfigDiff:
    """Which keys differ. Strategies added, removed or in another order: `strategies` as a whole."""
    reloadable: list[str] = []
    needs_restart: list[str] = []
    for path in _differences(old, new, ()):
        text = render_path(path)
        (reloadable if _RELOADABLE.fullmatch(text) else needs_restart).append(text)
    return ConfigDiff(tuple(reloadable), tuple(needs_restart))


def _differences(old: Any, new: Any, path: KeyPath) -> Iterator[KeyPath]:
    if attrs.has(type(old)) and type(old) is type(new):
        for field in attrs.fields(type(old)):
            name = field.name
            yield from _differences(getattr(old, name), getattr(new, name), (*path, name))
    elif isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted(old.keys() | new.keys()):
            yield from _differences(old.get(name), new.get(name), (*path, name))
    elif _same_items(old, new):
        for index, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _differences(before, after, (*path, index))
    elif old != new:
        yield path


def _same_items(old: Any, new: Any) -> bool:
    """Both are arrays of tables with the same names in the same order."""
    return (
        isinstance(old, tuple)
        and isinstance(new, tuple)
        and len(old) == len(new)
        and all(attrs.has(type(item)) for item in (*old, *new))
        and [item.name for item in old] == [item.name for item in new]
    )
