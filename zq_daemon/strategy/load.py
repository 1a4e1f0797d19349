"""Finds a strategy's class by `module:Class` and structures its parameters.

Owns the module search path and the wording of what goes wrong; it makes no instance and starts
nothing. The host calls it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any

import attrs

from zq_daemon.config.source import Source
from zq_daemon.config.structure import structure
from zq_daemon.errors import StrategyError
from zq_daemon.strategy.base import Strategy


def load_class(name: str, use: str, path: str | None = None) -> type[Strategy]:
    """The class *use* (`module:Class`) names, for strategy *name*.

    *path* is a folder searched for the module before all others. Raises StrategyError when the
    module or class is missing, raises while it is imported, or is no usable strategy.
    """
    module_name, colon, class_name = use.partition(":")
    if not (module_name and colon and class_name):
        raise StrategyError(f"strategy {name}: use = {use!r}: expected 'module:Class'")
    if path is not None and path not in sys.path:
        sys.path.insert(0, path)
    importlib.invalidate_caches()
    with Blame(name, f"importing module {module_name!r}"):
        module = _import(name, module_name, path)
    found = getattr(module, class_name, None)
    if found is None:
        origin = getattr(module, "__file__", None) or module_name
        raise StrategyError(f"strategy {name}: no class {class_name!r} in {origin}")
    return _checked(name, use, found)


def structure_params(cls: type[Strategy], params: Mapping[str, Any], source: Source) -> Any:
    """An instance of the strategy's `Params`; ConfigError lists every problem with its line."""
    return structure(cls.Params, params, source=source)


class Blame:
    """Whatever the strategy's own code raises in here becomes a StrategyError that names it."""

    def __init__(self, name: str, doing: str) -> None:
        self._name = name
        self._doing = doing

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        """A module may raise anything, and may even try to end the process."""
        if isinstance(error, StrategyError) or not isinstance(error, (Exception, SystemExit)):
            return
        what = f"{type(error).__name__}: {error}"
        raise StrategyError(f"strategy {self._name}: {self._doing} failed: {what}") from error


def _import(name: str, module_name: str, path: str | None) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing != module_name and not module_name.startswith(f"{missing}."):
            raise  # the module is there, and something it imports is not
        where = f" (path = {path!r} was searched first)" if path else ""
        raise StrategyError(f"strategy {name}: no module named {missing!r}{where}") from None


def _checked(name: str, use: str, found: Any) -> type[Strategy]:
    if not (isinstance(found, type) and issubclass(found, Strategy)):
        raise StrategyError(f"strategy {name}: {use} is not a subclass of Strategy")
    if not (isinstance(found.Params, type) and attrs.has(found.Params)):
        raise StrategyError(f"strategy {name}: {use}.Params is not an attrs class")
    return found
