"""Reads the numbered matrix of the venue specification, and the tests that stand for its rows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence

from attrs import frozen

_ROW = re.compile(r"\| *(TC-\d{3}) *\| *(.*?) *\| *`(\w+)` *\|")
_FILE = re.compile(r"^## .*\(`([^`]+)`\)$")
_NAME = re.compile(r"test_tc(\d{3})_\w+")


@frozen(order=True)
class Row:
    """A number, the test of that name, and the file it is in."""

    number: str
    test: str
    file: str


def documented(text: str) -> Sequence[Row]:
    """The rows of the document, in its order; the heading above a table names the file."""
    rows, file = [], ""
    for line in text.splitlines():
        if heading := _FILE.match(line):
            file = heading[1]
        elif row := _ROW.match(line):
            rows.append(Row(row[1], row[3], file))
    return rows


def tested(sources: Mapping[str, str]) -> Sequence[Row]:
    """The tests in *sources* (text by file), in their order."""
    return [
        Row(_number(node.name), node.name, file)
        for file, text in sources.items()
        for node in ast.parse(text).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if node.name.startswith("test_")
    ]


def differences(document: str, sources: Mapping[str, str]) -> Iterator[str]:
    """What keeps document and tests from being one list, numbered from TC-001 without gaps."""
    rows, tests = documented(document), tested(sources)
    yield from (f"{row}: not documented" for row in tests if row not in rows)
    yield from (f"{row}: not tested" for row in rows if row not in tests)
    for number, row in enumerate(rows, 1):
        if row.number != f"TC-{number:03}":
            yield f"{row}: expected TC-{number:03}"
        if row.number != _number(row.test):
            yield f"{row}: the test has another number"
    if len(set(tests)) != len(tests):
        yield "a test is there twice"


def _number(test: str) -> str:
    named = _NAME.fullmatch(test)
    return f"TC-{named[1]}" if named else "unnumbered"
