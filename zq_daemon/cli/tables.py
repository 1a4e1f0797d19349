"""Draws the daemon's status as tables. Pure: a dictionary in, something rich prints out.

A part the daemon did not send is left out: an older or younger daemon can be looked at too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from attrs import frozen
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

_Row = Mapping[str, Any]
_Cell = Callable[[_Row], Text]


@frozen
class _Column:
    """A heading, what to show of a row, to which side; *folds* where there is too little room."""

    heading: str
    cell: _Cell
    justify: Literal["left", "right"] = "left"
    folds: bool = False


_GOOD = frozenset({"up", "running", "active", "ready"})
_BAD = frozenset({"down", "refused", "faulted", "halted", "stale"})


def render_status(status: Any) -> RenderableType:
    """Tables for what *status* (the result of the `status` command) holds."""
    if not isinstance(status, Mapping):
        return Text("the daemon sent no status")
    parts: list[RenderableType] = [_headline(status)]
    for title, key, columns in _TABLES:
        rows = _rows(status.get(key))
        if rows:
            parts.append(_table(title, columns, rows))
    if "orders" in status:  # there are none while it starts
        parts.append(_footer(status))
    return Group(*parts)


def _headline(status: _Row) -> Text:
    daemon = _part(status, "daemon")
    line = Text("zq-daemon ", style="bold")
    line.append(_text(daemon.get("version")), style="bold")
    for name in ("state", "trading_state"):
        line.append("  ").append_text(_coloured(daemon.get(name)))
    line.append(f"  up {_duration(daemon.get('uptime_s'))}  pid {_text(daemon.get('pid'))}")
    line.append(f"  {_text(daemon.get('config'), '')}", style="dim")
    if daemon.get("detail"):
        line.append(f"\n{_text(daemon['detail'])}", style="dim")
    if daemon.get("trading_reason") and daemon.get("trading_state") != "active":
        line.append(f"\n{_text(daemon['trading_reason'])}", style="red")
    restart = daemon.get("needs_restart")
    if isinstance(restart, list) and restart:
        line.append(f"\nneeds a restart: {', '.join(map(_text, restart))}", style="yellow")
    for what in _part(_part(status, "execution"), "position_differences").values():
        line.append(f"\npositions differ from the venue's: {_text(what)}", style="red")
    return line


def _footer(status: _Row) -> Text:
    orders, bus = _part(status, "orders"), _part(status, "bus")
    bad = _part(status, "bad_messages")
    line = Text("\n")
    for name in ("open", "in_flight", "closed"):
        line.append(f"{name.replace('_', ' ')} orders {_text(orders.get(name))}  ")
    line.append(f"events {_text(bus.get('published'))}  faults {_text(bus.get('faults'))}  ")
    count = bad.get("count")
    line.append(f"bad messages {_text(count)}", style="red" if count else "")
    for recent in _recent(bad):
        line.append(f"\n  {recent}", style="dim")
    return line


def _recent(bad: _Row) -> Sequence[str]:
    recent = bad.get("recent")
    return [_text(one) for one in recent] if isinstance(recent, list) else []


def _table(title: str, columns: Sequence[_Column], rows: Sequence[_Row]) -> Table:
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


def _rows(value: Any) -> list[_Row]:
    """A list of tables; one table counts as a list of one."""
    items = [value] if isinstance(value, Mapping) else value
    return [row for row in items if isinstance(row, Mapping)] if isinstance(items, list) else []


def _part(status: _Row, name: str) -> _Row:
    part = status.get(name)
    return part if isinstance(part, Mapping) else {}


def _plain(heading: str, name: str) -> _Column:
    return _Column(heading, lambda row: Text(_text(row.get(name))))


def _folded(heading: str, name: str) -> _Column:
    return _Column(heading, lambda row: Text(_text(row.get(name), "")), folds=True)


def _number(heading: str, name: str) -> _Column:
    return _Column(heading, lambda row: Text(_text(row.get(name))), "right")


def _since(heading: str, name: str) -> _Column:
    return _Column(heading, lambda row: Text(_duration(row.get(name))), "right")


def _flag(heading: str, name: str, word: str) -> _Column:
    return _Column(heading, lambda row: Text(word if row.get(name) else "", style="yellow"))


def _state(heading: str, name: str) -> _Column:
    return _Column(heading, lambda row: _coloured(row.get(name)))


def _signed(heading: str, name: str) -> _Column:
    """A profit or loss: green or red."""

    def cell(row: _Row) -> Text:
        text = _text(row.get(name))
        style = "red" if text.startswith("-") else "green"
        return Text(text, style=style if text.strip("-0.") else "")

    return _Column(heading, cell, "right")


def _coloured(state: Any) -> Text:
    text = _text(state).lower()
    style = "green" if text in _GOOD else "red" if text in _BAD else "yellow"
    return Text(text, style=style)


def _trouble(row: _Row) -> Text:
    """The last error of a link and, while it is down, when it is tried again."""
    wait, error = row.get("next_attempt_s"), _text(row.get("last_error"), "")
    if wait is None:
        return Text(error, style="dim")
    attempt = f"attempt {_text(row.get('attempt'))} in {_duration(wait)}"
    return Text(f"{attempt}: {error}", style="yellow")


def _held(row: _Row) -> Text:
    held = {name: amount for name, amount in _part(row, "positions").items() if amount != "0"}
    return Text(", ".join(f"{_symbol(name)} {_text(held[name])}" for name in held) or "flat")


def _instruments(row: _Row) -> Text:
    names = row.get("instruments")
    return Text(", ".join(map(_symbol, names)) if isinstance(names, list) else _text(names))


def _symbol(instrument: Any) -> str:
    text = _text(instrument)
    return text.partition(".")[2] or text


def _duration(value: Any) -> str:
    """Seconds as `1.5s`, `4m10s`, `3h05m`, `2d04h`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return _text(value)
    if value < 60:
        return f"{value:.1f}s"
    minutes, seconds = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02}h"
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{seconds:02}s"


def _text(value: Any, missing: str = "-") -> str:
    text = missing if value is None else str(value)
    return text if text.isprintable() else repr(text)[1:-1]


_TABLES: Sequence[tuple[str, str, Sequence[_Column]]] = (
    (
        "Links",
        "links",
        (
            _plain("endpoint", "endpoint"),
            _state("state", "state"),
            _since("for", "since_s"),
            _flag("", "private", "private"),
            _number("messages", "messages"),
            _number("bad", "bad_messages"),
            _number("reconnects", "reconnects"),
            _since("outage", "outage_s"),
            _Column("last error", _trouble, folds=True),
        ),
    ),
    (
        "Market",
        "market",
        (
            _plain("instrument", "instrument"),
            _number("bid", "bid"),
            _number("ask", "ask"),
            _number("last", "last"),
            _flag("", "stale", "stale"),
        ),
    ),
    (
        "Strategies",
        "strategies",
        (
            _plain("strategy", "name"),
            _state("state", "state"),
            _Column("instruments", _instruments),
            _number("orders", "open_orders"),
            _Column("position", _held),
            _signed("net P&L", "net_pnl"),
            _number("faults", "faults"),
            _folded("reason", "reason"),
        ),
    ),
    (
        "Positions",
        "positions",
        (
            _plain("instrument", "instrument"),
            _number("quantity", "quantity"),
            _number("entry", "average_entry_price"),
            _number("mark", "mark"),
            _signed("unrealised", "unrealized_pnl"),
            _signed("realised", "realized_pnl"),
            _number("fees", "fees"),
        ),
    ),
    (
        "Account",
        "account",
        (
            _folded("account", "account"),
            _number("equity", "equity"),
            _signed("day P&L", "day_pnl"),
        ),
    ),
    (
        "Queues",
        "queues",
        (
            _plain("queue", "name"),
            _number("size", "size"),
            _number("capacity", "capacity"),
            _number("conflated", "conflated"),
            _since("blocked", "blocked_s"),
        ),
    ),
)
