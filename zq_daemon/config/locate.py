"""Finds the line that defines each key of a TOML text, which `tomllib` does not tell.

Owns a scanner over text that `tomllib` has already accepted: it finds keys and skips values, and
checks nothing. `config.load` calls it. Grammar: TOML 1.0, https://toml.io/en/v1.0.0.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from collections.abc import Mapping

KeyPath = tuple[str | int, ...]
"""From the root of a document: table keys and, for arrays, indices."""

_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*+")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]++")
_STRING = re.compile(
    r'"""(?:[^"\\]++|\\.|"{1,2}(?!"))*+"{3,5}'
    r"|'''(?:[^']++|'{1,2}(?!'))*+'{3,5}"
    r'|"(?:[^"\\\n]++|\\.)*+"'
    r"|'[^'\n]*+'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\n]++")


def locate(text: str) -> Mapping[KeyPath, int]:
    """The line (from 1) of every key, table and array item of *text*, whose lines end in a newline.

    A table is where its header first names it, an array of tables where its first header stands.
    *text* must be valid TOML; RecursionError when it is nested too deeply.
    """
    scanner = _Scanner(text)
    scanner.scan()
    return scanner.lines


class _Scanner:
    """One pass over the text; *_at* is the offset of what has not been read."""

    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._text = text
        self._at = 0
        self._ends = [match.start() for match in re.finditer("\n", text)]
        self._table: KeyPath = ()
        self._lengths: dict[KeyPath, int] = {}

    def scan(self) -> None:
        """Read every statement: headers and key/value pairs."""
        while self._skip_blank() < len(self._text):
            if self._text.startswith("[[", self._at):
                self._array_header()
            elif self._peek() == "[":
                self._table_header()
            else:
                self._pair(self._table)

    def _table_header(self) -> None:
        line = self._line()
        self._at += 1
        *parents, name = self._key()
        self._at += 1
        self._table = (*self._parent_tables(parents, line), name)
        self.lines[self._table] = line

    def _array_header(self) -> None:
        line = self._line()
        self._at += 2
        *parents, name = self._key()
        self._at += 2
        array = (*self._parent_tables(parents, line), name)
        index = self._lengths.get(array, 0)
        self._lengths[array] = index + 1
        self._table = (*array, index)
        self.lines.setdefault(array, line)
        self.lines[self._table] = line

    def _parent_tables(self, names: list[str], line: int) -> KeyPath:
        """The path a header's leading names mean: an array of tables stands for its last item."""
        path: KeyPath = ()
        for name in names:
            path = (*path, name)
            self.lines.setdefault(path, line)
            if path in self._lengths:
                path = (*path, self._lengths[path] - 1)
        return path

    def _pair(self, table: KeyPath) -> None:
        line = self._line()
        path = table
        for name in self._key():
            path = (*path, name)
            self.lines.setdefault(path, line)
        self._at += 1
        self._skip_blank()
        self._value(path)

    def _key(self) -> list[str]:
        """A possibly dotted key; stops at what follows it (`=` or `]`)."""
        names = [self._simple_key()]
        while self._skip_blank() < len(self._text) and self._peek() == ".":
            self._at += 1
            names.append(self._simple_key())
        return names

    def _simple_key(self) -> str:
        self._skip_blank()
        if self._peek() not in "\"'":
            return self._take(_BARE_KEY)
        name: str = tomllib.loads(f"key = {self._take(_STRING)}")["key"]
        return name

    def _value(self, path: KeyPath) -> None:
        first = self._peek()
        if first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        else:
            self._take(_STRING if first in "\"'" else _SCALAR)

    def _array(self, path: KeyPath) -> None:
        self._at += 1
        index = 0
        while self._skip_separators() != "]":
            item = (*path, index)
            self.lines[item] = self._line()
            self._value(item)
            index += 1
        self._at += 1

    def _inline_table(self, path: KeyPath) -> None:
        self._at += 1
        while self._skip_separators() != "}":
            self._pair(path)
        self._at += 1

    def _skip_separators(self) -> str:
        """Move to the next item or closing bracket, and return its first character."""
        self._skip_blank()
        if self._peek() == ",":
            self._at += 1
            self._skip_blank()
        return self._peek()

    def _skip_blank(self) -> int:
        self._take(_BLANK)
        return self._at

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise ValueError(f"line {self._line()}: not valid TOML")
        self._at = match.end()
        return match[0]

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _line(self) -> int:
        return bisect_left(self._ends, self._at) + 1
