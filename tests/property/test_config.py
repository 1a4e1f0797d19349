"""The locator against documents whose lines are known, because we wrote them."""

from __future__ import annotations

import json
import tomllib
from typing import Any

import attrs
from hypothesis import example, given
from hypothesis import strategies as st

from zq_daemon.config.load import parse_document, structure_config
from zq_daemon.config.locate import KeyPath, locate
from zq_daemon.config.schema import (
    DaemonConfig,
    ExchangeConfig,
    HyperliquidConfig,
    LogConfig,
    RiskConfig,
    StrategyConfig,
    WsEndpointConfig,
)
from zq_daemon.errors import ConfigError

BARE = st.text("abcXYZ019_-", min_size=1, max_size=4)
TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8)
NASTY = st.sampled_from(
    ["a.b", "[x]", "k = 1", "# no", '"', "'", "''", '""', "\n", "\\", "", "é", "{", "}", ","]
)
KEYS = BARE | NASTY | TEXT
SCALARS = (
    st.integers(-(10**6), 10**6) | st.booleans() | st.floats(allow_nan=False) | TEXT | NASTY | BARE
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
TABLES = st.dictionaries(KEYS, VALUES, max_size=4)
PARTS = (WsEndpointConfig, StrategyConfig, HyperliquidConfig, RiskConfig, ExchangeConfig, LogConfig)
KNOWN = sorted(
    {field.name for field in attrs.fields(DaemonConfig)}
    | {inner.name for part in PARTS for inner in attrs.fields(part)}
)
WILD = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(KNOWN), inner, max_size=3)
    ),
    max_leaves=10,
)


class Writer:
    """Writes TOML in a drawn style and remembers on which line each key path came to stand."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.text = ""
        self.lines: dict[KeyPath, int] = {}

    def here(self) -> int:
        return self.text.count("\n") + 1

    def choose(self, *options: str) -> str:
        return self.draw(st.sampled_from(options))

    def gap(self) -> None:
        self.text += self.choose("", "", "\n", "# [a] = 'b'\n", "\t# \"\"\" '''\n")

    def key(self, key: str) -> None:
        bare = key != "" and all(c in "abcXYZ019_-" for c in key)
        if bare and self.draw(st.booleans()):
            self.text += key
        elif key.isprintable() and "'" not in key and self.draw(st.booleans()):
            self.text += f"'{key}'"
        else:
            self.text += basic(key)

    def pair(self, path: KeyPath, value: Any) -> None:
        """`key = value`, or `key.inner = value` for a table with a single key."""
        self.lines[path] = self.here()
        self.key(str(path[-1]))
        while isinstance(value, dict) and len(value) == 1 and self.draw(st.booleans()):
            ((inner, value),) = value.items()
            path = (*path, inner)
            self.lines[path] = self.here()
            self.text += self.choose(".", " . ")
            self.key(inner)
        self.text += self.choose("=", " = ", "\t=  ")
        self.value(path, value)

    def value(self, path: KeyPath, value: Any) -> None:
        match value:
            case dict():
                self.inline(path, value)
            case list():
                self.array(path, value)
            case str():
                self.string(value)
            case bool():
                self.text += str(value).lower()
            case float():
                self.text += repr(value)
            case _:
                self.text += str(value)

    def string(self, value: str) -> None:
        plain = value.replace("\n", "").isprintable()
        if plain and "'''" not in value and self.draw(st.booleans()):
            self.text += f"'''\n{value}'''"
        elif plain and "\\" not in value and '"""' not in value and self.draw(st.booleans()):
            self.text += f'"""\n{value}"""'
        elif self.draw(st.booleans()):
            self.text += f'"""{basic(value)[1:-1]}"""'
        else:
            self.text += basic(value)

    def inline(self, path: KeyPath, table: dict[str, Any]) -> None:
        self.text += self.choose("{", "{ ")
        for number, (key, value) in enumerate(table.items()):
            self.text += self.choose(",", ", ") if number else ""
            self.pair((*path, key), value)
        self.text += self.choose("}", " }")

    def array(self, path: KeyPath, items: list[Any]) -> None:
        self.text += "["
        for number, item in enumerate(items):
            self.text += self.choose("", "\n", "  ", " # ], x\n")
            self.lines[(*path, number)] = self.here()
            self.value((*path, number), item)
            self.text += self.choose(",", " ,", "\n,") if number < len(items) - 1 else ""
        self.text += self.choose("]", "\n]", ",]" if items else "]")

    def body(self, path: KeyPath, table: dict[str, Any]) -> None:
        for key, value in table.items():
            self.gap()
            self.pair((*path, key), value)
            self.text += self.choose("\n", "  # ok\n")

    def header(self, keys: tuple[str, ...], brackets: int) -> None:
        self.gap()
        self.text += "[" * brackets + self.choose("", " ")
        for number, key in enumerate(keys):
            self.text += self.choose(".", " . ") if number else ""
            self.key(key)
        self.text += "]" * brackets + "\n"


def basic(text: str) -> str:
    """A TOML basic string; JSON's escapes are TOML's too, save surrogate pairs."""
    return (
        "".join(c if ord(c) > 0xFFFF else json.dumps(c)[1:-1] for c in text)
        .join('""')
        .replace("\x7f", "\\u007f")
    )


@st.composite
def documents(draw: st.DrawFn) -> Writer:
    """A root table, then tables (some of them below another), then arrays of tables."""
    writer = Writer(draw)
    writer.body((), draw(TABLES))
    used = {path[0] for path in writer.lines}
    names = [k for k in draw(st.lists(KEYS, max_size=4, unique=True)) if k not in used]
    for name in names:
        if draw(st.booleans()):
            table_at(writer, draw, (name,), (name,))
        else:
            for index in range(draw(st.integers(1, 3))):
                item_at(writer, draw, name, index)
    return writer


def table_at(writer: Writer, draw: st.DrawFn, path: KeyPath, keys: tuple[str, ...]) -> None:
    """`[keys]` and, sometimes, `[keys.sub]` below it."""
    writer.header(keys, 1)
    writer.lines[path] = writer.here() - 1
    table = draw(TABLES)
    writer.body(path, table)
    sub = draw(KEYS)
    if sub not in table and len(path) < 4 and draw(st.booleans()):
        table_at(writer, draw, (*path, sub), (*keys, sub))


def item_at(writer: Writer, draw: st.DrawFn, name: str, index: int) -> None:
    """`[[name]]` and, sometimes, `[name.sub]`, which belongs to this item."""
    writer.header((name,), 2)
    line = writer.here() - 1
    writer.lines.setdefault((name,), line)
    writer.lines[(name, index)] = line
    table = draw(TABLES)
    writer.body((name, index), table)
    sub = draw(KEYS)
    if sub not in table and draw(st.booleans()):
        table_at(writer, draw, (name, index, sub), (name, sub))


def paths(value: Any, path: KeyPath = ()) -> set[KeyPath]:
    """Every key path of a parsed document."""
    found = {path} if path else set()
    if isinstance(value, dict):
        return found.union(*(paths(inner, (*path, key)) for key, inner in value.items()))
    if isinstance(value, list):
        return found.union(*(paths(inner, (*path, at)) for at, inner in enumerate(value)))
    return found


@given(documents())
def test_every_key_is_located_where_it_was_written(writer: Writer) -> None:
    parsed = tomllib.loads(writer.text)
    located = locate(writer.text)
    assert located.keys() == paths(parsed)
    assert located == writer.lines


@given(TABLES)
@example({"risk": {"max_leverage": float("nan")}})
@example({"strategies": [{}], "ws_endpoints": [1, {"url": 5}], "venues": {"hyperliquid": 1}})
@example({"reconnect_base_ms": "x", "exchange": {"replay": 1, "seed": []}})
def test_any_document_is_a_config_or_a_config_error(table: dict[str, Any]) -> None:
    check_outcome(table)


@given(st.dictionaries(st.sampled_from(KNOWN), WILD, min_size=1, max_size=4))
def test_known_keys_with_wild_values_are_too(table: dict[str, Any]) -> None:
    check_outcome(table)


def check_outcome(table: dict[str, Any]) -> None:
    """The document is accepted, or refused with every line of the error naming the file."""
    text = "".join(f"{basic(key)} = {inline(value)}\n" for key, value in table.items())
    try:
        told = structure_config(parse_document(text, "x.toml"))
    except ConfigError as error:
        told = str(error)
    if isinstance(told, str):
        assert all(line.startswith("x.toml") for line in told.splitlines())
    else:
        assert isinstance(told, DaemonConfig)


def inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{basic(k)} = {inline(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(inline, value)) + "]"
    return basic(value) if isinstance(value, str) else str(value).lower()
