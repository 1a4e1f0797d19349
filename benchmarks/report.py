"""The table: one row for each figure, beside what it is compared with and what it must hold."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence

from attrs import frozen
from rich.console import Console
from rich.table import Table

HEADERS = ("what", "figure", "against, in the same run", "limit", "")


@frozen(kw_only=True)
class Row:
    """One figure; *against* says how it compares with what, both measured in one run.

    *limit* is what was promised and *holds* whether it was kept; both empty where nothing was.
    """

    name: str
    figure: str
    against: str = ""
    limit: str = ""
    holds: bool | None = None

    def cells(self) -> Sequence[str]:
        """Under `HEADERS`."""
        return self.name, self.figure, self.against, self.limit, _verdict(self.holds)


def print_table(title: str, headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print *rows* to standard output, wide enough to be read when it is no terminal."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=150)
    table = Table(title=title, title_justify="left")
    for header in headers:
        table.add_column(header)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def duration(ns: float) -> str:
    """Nanoseconds in the unit in which they are read best."""
    if ns < 1_000:
        return f"{ns:.0f} ns"
    if ns < 1_000_000:
        return f"{ns / 1_000:.3g} µs"
    if ns < 1_000_000_000:
        return f"{ns / 1_000_000:.3g} ms"
    return f"{ns / 1_000_000_000:.3g} s"


def size(count: float) -> str:
    """Bytes as megabytes (10^6)."""
    return f"{count / 1e6:.1f} MB"


def times(other: float, own: float) -> str:
    """How many times *own* is in *other*: above 1 our figure is the smaller one."""
    ratio = other / own
    return f"{ratio:,.0f}x" if ratio >= 100 else f"{ratio:.2g}x"


def compared(name: str, other: float, own: float) -> str:
    """An alternative's duration in nanoseconds beside *own*."""
    return f"{name} {duration(other)} ({times(other, own)})"


def _verdict(holds: bool | None) -> str:
    if holds is None:
        return ""
    return "[green]holds[/]" if holds else "[red]BROKEN[/]"


def machine() -> str:
    """The interpreter and the platform, for a title."""
    return f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
