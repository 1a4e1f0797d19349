"""Draws the answers of `orders` and `positions` as tables. Pure: a dictionary in, a picture out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from zq_daemon.cli.columns import (
    Column,
    Row,
    duration,
    number,
    part_of,
    plain,
    price,
    rounded,
    rows_of,
    signed,
    text_of,
)


def render_orders(answer: Any) -> RenderableType:
    """A table of the orders in *answer*, the result of the `orders` command."""
    if not isinstance(answer, Mapping):
        return Text("the daemon sent no orders")
    rows = rows_of(answer.get("orders"))
    kind = text_of(answer.get("kind"), "").replace("_", " ")
    if not rows:
        return Text(f"no {kind} orders")
    total = answer.get("total")
    title = f"{text_of(total, str(len(rows)))} {kind} {'order' if total == 1 else 'orders'}"
    if isinstance(total, int) and total > len(rows):
        title += f", the newest {len(rows)} shown: narrow it by --strategy, --instrument or --limit"
    heading, *lines = _aligned(_ORDERS, rows)
    told = [Text(f"\n{title}", style="bold"), heading]
    for row, line in zip(rows, lines, strict=True):
        told += [line, *_details(row)]
    return Text("\n").join(told)


def render_positions(answer: Any) -> RenderableType:
    """Tables of the positions in *answer*, the result of the `positions` command."""
    if not isinstance(answer, Mapping):
        return Text("the daemon sent no positions")
    told = [
        _holdings(f"Account {text_of(part.get('account'))}", part, _AMOUNTS)
        for part in rows_of(answer.get("accounts"))
    ]
    strategies = part_of(answer, "strategies")
    told.append(_holdings("Strategies", strategies, (plain("strategy", "strategy"), *_AMOUNTS)))
    return Text("\n").join(told)


def render_reconciliation(answer: Any) -> RenderableType:
    """The differences in *answer*, the result of the `reconcile` command, and what was done."""
    if not isinstance(answer, Mapping):
        return Text("the daemon did not say what differs")
    rows, total = rows_of(answer.get("differences")), answer.get("total")
    is_dry = answer.get("dry_run") is True
    asked = f"{text_of(answer.get('orders_asked_about'))} live orders asked about"
    told = [Text(f"no differences ({asked})")]
    if rows:
        heading, *lines = _aligned(_DIFFERENCES, rows)
        title = f"{text_of(total)} {'difference' if total == 1 else 'differences'} ({asked})"
        if isinstance(total, int) and total > len(rows):
            title += f", the first {len(rows)} shown"
        told = [Text(f"\n{title}", style="bold"), heading]
        for row, line in zip(rows, lines, strict=True):
            told += [line, *_sides(row)]
    if answer.get("fills_complete") is False:
        told.append(Text("the venue does not have all fills any more", style="yellow"))
    told += [Text("nothing was changed: it was a dry run")] if is_dry else _done(answer)
    return Text("\n").join(told)


def _sides(row: Row) -> Iterator[Text]:
    ours, venue = text_of(row.get("ours")), text_of(row.get("venue"))
    yield Text(f"    ours: {ours}; the venue's: {venue}")
    if row.get("order") is not None:
        yield Text(f"    {text_of(row['order'])}", style="dim")


def _done(answer: Row) -> list[Text]:
    done = part_of(answer, "done")
    counts = (f"{text_of(done.get(name))} {told}" for name, told in _COUNTS)
    lines = [Text(f"done: {', '.join(counts)}")]
    adjusted, halted = done.get("adjusted"), answer.get("halted_accounts")
    for what, items, style in (
        ("taken over from the venue", adjusted, "yellow"),
        ("still halted", halted, "red"),
    ):
        names = items if isinstance(items, list) else []
        lines += [Text(f"{what}: {text_of(each)}", style=style) for each in names]
    return lines


def _holdings(title: str, part: Row, columns: Sequence[Column]) -> Text:
    rows = rows_of(part.get("rows"))
    if not rows:
        return Text(f"\n{title}: no positions")
    every = [*rows, {**_BLANK, **part_of(part, "sums")}]
    heading, *lines = _aligned(columns, every)
    lines[-1].stylize("bold")
    told = [Text(f"\n{_cut(title, part, rows)}", style="bold"), heading]
    for row, line in zip(every, lines, strict=True):
        told += [line, _made_of(row)]
    return Text("\n").join(told)


def _made_of(row: Row) -> Text:
    """What the net P&L is the sum of, on a line of its own."""
    parts = (f"{heading} {rounded(row.get(name))}" for heading, name in _PARTS)
    return Text(f"    {'  '.join(parts)}", style="dim")


def _aligned(columns: Sequence[Column], rows: Sequence[Row]) -> list[Text]:
    """A heading and a line for each row.

    No table: that cuts where the terminal is too narrow, and half an amount is another amount.
    """
    cells = [[Text(column.heading, style="bold") for column in columns]]
    cells += ([column.cell(row) for column in columns] for row in rows)
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        for cell, width, column in zip(line, widths, columns, strict=True):
            cell.align(column.justify, width)
    return [Text("  ").join(line) for line in cells]


def _details(row: Row) -> Iterator[Text]:
    """The ids, the trigger, and for an order in flight since when and why: lines of their own."""
    ids = f"    {text_of(row.get('client_order_id'))}"
    if row.get("venue_order_id") is not None:
        ids += f"  venue's {text_of(row['venue_order_id'])}"
    ids += f"  {duration(row.get('age_s'))} old"
    yield Text(ids, style="dim")
    if row.get("trigger_price") is not None:
        entry = "" if row.get("entry") is None else f", an exit of {text_of(row['entry'])}"
        yield Text(f"    triggers at {text_of(row['trigger_price'])}{entry}")
    why, seconds = text_of(row.get("why"), ""), row.get("in_flight_s")
    if row.get("synthetic") is not None:
        made_up = text_of(row["synthetic"])
        yield Text(f"    {made_up} filled as the venue says, which gives no fill", style="yellow")
    if doubt := part_of(row, "doubt"):
        yield from _doubt(doubt)
    elif seconds is not None:
        yield Text(f"    in flight for {duration(seconds)}: {why}", style="yellow")
    elif why:
        yield Text(f"    {why}", style="dim")


def _doubt(doubt: Row) -> Iterator[Text]:
    """Since when and why it is in doubt, and what ends that."""
    since, why = duration(doubt.get("since_s")), text_of(doubt.get("why"))
    yield Text(f"    in doubt for {since}: {why}", style="yellow")
    again = duration(doubt.get("next_s"))
    line = f"    asked {text_of(doubt.get('asked'))} times, again in {again}"
    if doubt.get("valid_s") is not None:
        line += f", valid for {duration(doubt['valid_s'])} more"
    yield Text(line, style="dim")
    awaited = f"    awaited: {text_of(doubt.get('awaited'))}"
    if doubt.get("missing_fills") is not None:
        awaited += f"; missing: {text_of(doubt['missing_fills'])}"
    yield Text(awaited, style="dim")


def _cut(title: str, part: Row, rows: Sequence[Row]) -> str:
    total = part.get("total")
    if not isinstance(total, int) or total <= len(rows):
        return title
    return f"{title} (the first {len(rows)} of {total}, flat ones last; the sums are of all)"


def _status(row: Row) -> Text:
    text = text_of(row.get("status"))
    pending = row.get("pending")
    return Text(text if pending is None else f"{text} +{text_of(pending)}")


def _flags(row: Row) -> Text:
    names = {"post_only": "post", "reduce_only": "reduce"}
    told = [text_of(row.get("type"))]
    told += [text_of(row["time_in_force"])] if row.get("time_in_force") not in (None, "gtc") else []
    return Text(" ".join([*told, *(word for name, word in names.items() if row.get(name))]))


_ORDERS: Sequence[Column] = (
    plain("strategy", "strategy"),
    plain("instrument", "instrument"),
    plain("side", "side"),
    Column("type", _flags),
    number("price", "price"),
    number("quantity", "quantity"),
    number("filled", "filled"),
    Column("status", _status),
)

_DIFFERENCES: Sequence[Column] = (
    plain("difference", "kind"),
    plain("instrument", "instrument"),
    plain("what is done", "action"),
)
_COUNTS = (
    ("asked", "orders asked about"),
    ("resolved", "ended"),
    ("unresolved", "still in doubt"),
    ("fills", "fills booked"),
)

_AMOUNTS: Sequence[Column] = (
    plain("instrument", "instrument"),
    number("quantity", "quantity"),
    price("entry", "average_entry_price"),
    price("mark", "mark"),
    signed("net P&L", "net_pnl"),
)
_PARTS = (
    ("unrealised", "unrealized_pnl"),
    ("realised", "realized_pnl"),
    ("fees", "fees"),
    ("funding", "funding"),
)
_BLANK = {
    "strategy": "",
    "instrument": "total",
    "quantity": "",
    "average_entry_price": "",
    "mark": "",
}
