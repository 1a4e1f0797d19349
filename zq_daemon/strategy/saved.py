"""What a strategy may save: plain JSON that comes back as it was, bounded, copied on both ways.

Owns which values those are and the wording of what is refused. It writes nothing: the context sends
what is saved to the journal and shows what was restored from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec
from attrs import frozen

from zq_daemon.config.locate import KeyPath
from zq_daemon.config.source import render_path
from zq_daemon.errors import StrategyError
from zq_daemon.model.check import told

MAX_BYTES = 64 * 1024
"""Of one state, as JSON."""
MAX_DEPTH = 32
_MAX_INT = (1 << 63) - 1

_INSTEAD: dict[type, str] = {
    Decimal: "save str(value), and read it back with Decimal(text)",
    float: "save repr(value), and read it back with float(text)",
    tuple: "save a list",
    set: "save a sorted list",
    frozenset: "save a sorted list",
    bytes: "save value.hex(), and read it back with bytes.fromhex(text)",
}


@frozen(kw_only=True)
class SavedState:
    """What was saved last, to be changed at will; *version* is the strategy's own number."""

    version: int
    data: dict[str, Any]


@frozen(kw_only=True)
class PackedState:
    """A state as JSON: equal states are equal values, and nobody can change one."""

    version: int
    payload: bytes

    @property
    def data(self) -> dict[str, Any]:
        """A copy of the data."""
        data: dict[str, Any] = msgspec.json.decode(self.payload)
        return data

    def unpack(self) -> SavedState:
        """What a strategy is shown."""
        return SavedState(version=self.version, data=self.data)


def pack(version: int, data: Mapping[str, Any]) -> PackedState:
    """Check and copy what a strategy saves; StrategyError says what cannot be saved, and where.

    Dictionaries with text as keys, lists, text, integers of 64 bits, booleans and None.
    """
    if type(version) is not int or not 0 <= version <= _MAX_INT:
        raise StrategyError(f"version {told(version)}: expected an integer, 0 or more")
    if not isinstance(data, Mapping):
        raise StrategyError(f"data: expected a dictionary, got {_named(data)}")
    packed = repack(version, _plain(dict(data), ("data",)))
    if len(packed.payload) > MAX_BYTES:
        raise StrategyError(f"data: {len(packed.payload)} bytes as JSON; at most {MAX_BYTES}")
    return packed


def repack(version: int, data: Mapping[str, Any]) -> PackedState:
    """What the journal gave back, which was checked before it was saved."""
    payload = msgspec.json.encode(data, order="deterministic")
    return PackedState(version=version, payload=payload)


def _plain(value: Any, path: KeyPath) -> Any:
    if len(path) > MAX_DEPTH:
        raise StrategyError(f"{path[0]}: nested deeper than {MAX_DEPTH} (does it hold itself?)")
    if isinstance(value, dict):
        return {_key(key, path): _plain(each, (*path, key)) for key, each in value.items()}
    if type(value) is list:
        return [_plain(each, (*path, index)) for index, each in enumerate(value)]
    if type(value) is str:
        return _text(value, path)
    if type(value) is int and not -_MAX_INT <= value <= _MAX_INT:
        raise StrategyError(f"{render_path(path)}: an integer beyond 64 bits: save it as text")
    if value is None or type(value) in (bool, int):
        return value
    instead = _INSTEAD.get(type(value), "save what it is made of, as text, integers and lists")
    raise StrategyError(f"{render_path(path)}: {_named(value)} cannot be saved: {instead}")


def _key(key: Any, path: KeyPath) -> str:
    if type(key) is not str:
        raise StrategyError(f"{render_path(path)}: the key {told(key)} is not text")
    return _text(key, path)


def _text(value: str, path: KeyPath) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise StrategyError(f"{render_path(path)}: {told(value)} is no Unicode text") from None
    return value


def _named(value: Any) -> str:
    return f"a value of type {type(value).__name__}"
