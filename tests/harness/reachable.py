"""How much a daemon holds: every object that can be reached from it, without what is not its own.

Tells growth exactly where the size of a process cannot: a test's exchange, network and disk are in
the same process, grow as they should, and are left out, and so is the interpreter's own.
"""

from __future__ import annotations

import gc
import sys
from collections import Counter
from types import BuiltinFunctionType, CodeType, FrameType, ModuleType
from typing import Any

import trio

_FOREIGN = (ModuleType, type, CodeType, BuiltinFunctionType, FrameType, trio.lowlevel.Task)


def reachable(root: object, *without: object) -> Counter[str]:
    """The objects that can be reached from *root*, by type; not by way of *without*."""
    namespaces = (vars(module) for module in list(sys.modules.values()))
    passed = {id(each) for each in (*without, *namespaces)}
    counts: Counter[str] = Counter()
    waiting: list[Any] = [root]
    while waiting:
        found = waiting.pop()
        if id(found) in passed or isinstance(found, _FOREIGN):
            continue
        passed.add(id(found))
        counts[type(found).__qualname__] += 1
        waiting += gc.get_referents(found)
    return counts
