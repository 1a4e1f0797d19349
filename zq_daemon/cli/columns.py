"""Tables of what a daemon sent: columns by kind of value, rows as they came.

Whatever is missing, of another type or not printable is shown as well as it can be: the daemon may
be older or younger than the command. Called by the modules that draw the answers of commands.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Context, Decimal
from typing import Any, Literal

from attrs import frozen
from rich import box
from rich.table import Table
from rich.text import Text

Row = Mapping[str, Any]
Cell = Callable[[Row], Text]


@frozen
class Column:
    """A heading, what to show of a row, to which side; *folds* where there is too little room."""

    heading: str
    cell: Cell
    justify: Literal["left", "right"] = "left"
    folds: bool = False


_FIGURES = 8
_DECIMALS = 6
_FRACTION = re.compile(r"-?\d{1,40}\.\d{1,60}")
_GOOD = frozenset({"up", "running", "active", "ready"})
_BAD = frozenset({"down", "refused", "faulted", "halted", "stale"})


def draw_table(title: str, columns: Sequence[Column], rows: Sequence[Row]) -> Table:
    """*rows* under *title*."""
    table = Table(
        title=f"\n{title}",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        collapse_padding=True,
    )
    for column in columns:
        table.add_column(
            column.heading,
            justify=column.justify,
            no_wrap=not column.folds,
            overflow="fold" if column.folds else "ellipsis",
        )
    for row in rows:
        table.add_row(*(column.cell(row) for column in columns))
    return table


def rows_of(value: Any) -> list[Row]:
    """A list of tables; one table counts as a list of one."""
    items = [value] if isinstance(value, Mapping) else value
    return [row for row in items if isinstance(row, Mapping)] if isinstance(items, list) else []


def part_of(whole: Row, name: str) -> Row:
    """The table *name*; an empty one where there is none."""
    part = whole.get(name)
    return part if isinstance(part, Mapping) else {}


def plain(heading: str, name: str) -> Column:
    """Text on one line."""
    return Column(heading, lambda row: Text(text_of(row.get(name))))


def folded(heading: str, name: str) -> Column:
    """Text that may be long; nothing where there is none."""
    return Column(heading, lambda row: Text(text_of(row.get(name), "")), folds=True)


def number(heading: str, name: str) -> Column:
    """An amount or a count."""
    return Column(heading, lambda row: Text(text_of(row.get(name))), "right")


def price(heading: str, name: str) -> Column:
    """A price, which may be an average: to eight figures."""
    return Column(heading, lambda row: Text(rounded(row.get(name), figures=_FIGURES)), "right")


def since(heading: str, name: str) -> Column:
    """How long something took or has been so."""
    return Column(heading, lambda row: Text(duration(row.get(name))), "right")


def flag(heading: str, name: str, word: str) -> Column:
    """*word* where it is so."""
    return Column(heading, lambda row: Text(word if row.get(name) else "", style="yellow"))


def state(heading: str, name: str) -> Column:
    """A state: green, red or, in between, yellow."""
    return Column(heading, lambda row: coloured(row.get(name)))


def signed(heading: str, name: str) -> Column:
    """A profit or loss, to six decimals: green or red."""

    def cell(row: Row) -> Text:
        text = rounded(row.get(name))
        style = "red" if text.startswith("-") else "green"
        return Text(text, style=style if text.strip("-0.") else "")

    return Column(heading, cell, "right")


def coloured(value: Any) -> Text:
    """A state, in the colour of how good it is."""
    text = text_of(value).lower()
    style = "green" if text in _GOOD else "red" if text in _BAD else "yellow"
    return Text(text, style=style)


def symbol_of(instrument: Any) -> str:
    """An instrument without its venue."""
    text = text_of(instrument)
    return text.partition(".")[2] or text


def duration(value: Any) -> str:
    """Seconds as `1.5s`, `4m10s`, `3h05m`, `2d04h`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return text_of(value)
    if value < 60:
        return f"{value:.1f}s"
    minutes, seconds = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02}h"
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{seconds:02}s"


def rounded(value: Any, *, figures: int | None = None) -> str:
    """An amount with six decimals at most, or with *figures*; what is no fraction as it is."""
    text = text_of(value)
    if not _FRACTION.fullmatch(text):
        return text
    amount = Decimal(text)
    places = _DECIMALS if figures is None else max(0, figures - 1 - amount.adjusted())
    if len(text.partition(".")[2]) <= places:
        return text
    short = amount.quantize(Decimal(1).scaleb(-places), context=Context(prec=len(text)))
    told = f"{short:f}"
    told = told.rstrip("0").rstrip(".") if "." in told else told
    return "0" if told == "-0" else told


def text_of(value: Any, missing: str = "-") -> str:
    """*value* as text that a terminal can be given: control characters are escaped."""
    text = missing if value is None else str(value)
    return text if text.isprintable() else repr(text)[1:-1]
