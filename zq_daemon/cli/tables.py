"""Draws the daemon's status as tables. Pure: a dictionary in, something rich prints out.

A part the daemon did not send is left out: an older or younger daemon can be looked at too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from zq_daemon.cli.columns import (
    Column,
    Row,
    coloured,
    draw_table,
    duration,
    flag,
    folded,
    number,
    part_of,
    plain,
    price,
    rows_of,
    signed,
    since,
    state,
    symbol_of,
    text_of,
)
from zq_daemon.cli.durability import draw_durability


def render_status(status: Any) -> RenderableType:
    """Tables for what *status* (the result of the `status` command) holds."""
    if not isinstance(status, Mapping):
        return Text("the daemon sent no status")
    parts: list[RenderableType] = [_headline(status)]
    for title, key, columns in _TABLES:
        rows = rows_of(status.get(key))
        if rows:
            parts.append(draw_table(title, columns, rows))
            parts += (note for row in rows if (note := _note(key, row)) is not None)
    parts += (part for part in (_budgets(status), draw_durability(status)) if part is not None)
    if "orders" in status:  # there are none while it starts
        parts.append(_footer(status))
    return Group(*parts)


def _headline(status: Row) -> Text:
    daemon = part_of(status, "daemon")
    line = Text("zq-daemon ", style="bold")
    line.append(text_of(daemon.get("version")), style="bold")
    for name in ("state", "trading_state"):
        line.append("  ").append_text(coloured(daemon.get(name)))
    line.append(f"  up {duration(daemon.get('uptime_s'))}  pid {text_of(daemon.get('pid'))}")
    line.append(f"  {text_of(daemon.get('config'), '')}", style="dim")
    if daemon.get("detail"):
        line.append(f"\n{text_of(daemon['detail'])}", style="dim")
    if daemon.get("trading_reason") and daemon.get("trading_state") != "active":
        line.append(f"\n{text_of(daemon['trading_reason'])}", style="red")
    restart = daemon.get("needs_restart")
    if isinstance(restart, list) and restart:
        line.append(f"\nneeds a restart: {', '.join(map(text_of, restart))}", style="yellow")
    if problem := part_of(status, "credentials").get("problem"):
        line.append(f"\n{text_of(problem)}", style="red")
    for what in part_of(part_of(status, "execution"), "position_differences").values():
        line.append(f"\npositions differ from the venue's: {text_of(what)}", style="red")
    halted = part_of(status, "execution").get("halted_accounts")
    for account in halted if isinstance(halted, list) else ():
        told = f"{text_of(account)} is halted until they agree: zq-daemon reconcile --dry-run"
        line.append(f"\n{told}", style="red")
    return line


def _budgets(status: Row) -> Text | None:
    """What is used of the venue's limits, and what they cost; None where the daemon told none."""
    budgets = part_of(status, "budgets")
    used = [(name, budgets.get(f"{name}_used")) for name in ("weight", "messages", "actions")]
    if all(amount is None for _, amount in used):
        return None
    line = Text("\n").append("Budgets\n", style="bold")
    for name, amount in used:
        limit = text_of(budgets.get(f"{name}_limit"), "any number")
        line.append("" if amount is None else f"{name} {text_of(amount)} of {limit}  ")
    refused, wait = budgets.get("refused"), budgets.get("waiting_s")
    line.append(f"refused {text_of(refused)}", style="red" if refused else "")
    if wait:
        line.append(f"  nothing is sent for {duration(wait)}", style="yellow")
    return line


def _footer(status: Row) -> Text:
    orders, bus = part_of(status, "orders"), part_of(status, "bus")
    bad = part_of(status, "bad_messages")
    line = Text("\n")
    for name in ("open", "in_flight", "closed"):
        line.append(f"{name.replace('_', ' ')} orders {text_of(orders.get(name))}  ")
    line.append(f"events {text_of(bus.get('published'))}  faults {text_of(bus.get('faults'))}  ")
    count = bad.get("count")
    line.append(f"bad messages {text_of(count)}", style="red" if count else "")
    for recent in _recent(bad):
        line.append(f"\n  {recent}", style="dim")
    return line


def _recent(bad: Row) -> Sequence[str]:
    recent = bad.get("recent")
    return [text_of(one) for one in recent] if isinstance(recent, list) else []


def _note(key: str, row: Row) -> Text | None:
    """What is to be said of a row below its table, as it may be long; None: nothing."""
    if key == "strategies" and row.get("reason"):
        return Text(f"{text_of(row.get('name'))}: {text_of(row['reason'])}", style="yellow")
    return _trouble(row) if key == "links" else None


def _trouble(row: Row) -> Text | None:
    """The last error of a link and, while it is down, when it is tried again."""
    wait, error = row.get("next_attempt_s"), text_of(row.get("last_error"), "")
    name = text_of(row.get("endpoint"))
    if wait is None:
        return Text(f"{name}: {error}", style="dim") if error else None
    attempt = f"attempt {text_of(row.get('attempt'))} in {duration(wait)}"
    return Text(f"{name}: {attempt}: {error}", style="yellow")


def _held(row: Row) -> Text:
    held = {name: amount for name, amount in part_of(row, "positions").items() if amount != "0"}
    return Text(", ".join(f"{symbol_of(name)} {text_of(held[name])}" for name in held) or "flat")


def _instruments(row: Row) -> Text:
    names = row.get("instruments")
    return Text(", ".join(map(symbol_of, names)) if isinstance(names, list) else text_of(names))


_TABLES: Sequence[tuple[str, str, Sequence[Column]]] = (
    (
        "Links",
        "links",
        (
            plain("endpoint", "endpoint"),
            state("state", "state"),
            since("for", "since_s"),
            flag("", "private", "private"),
            number("messages", "messages"),
            number("bad", "bad_messages"),
            number("reconnects", "reconnects"),
            since("outage", "outage_s"),
        ),
    ),
    (
        "Market",
        "market",
        (
            plain("instrument", "instrument"),
            number("bid", "bid"),
            number("ask", "ask"),
            number("last", "last"),
            flag("", "stale", "stale"),
        ),
    ),
    (
        "Strategies",
        "strategies",
        (
            plain("strategy", "name"),
            state("state", "state"),
            Column("instruments", _instruments, folds=True),
            number("orders", "open_orders"),
            Column("position", _held, folds=True),
            signed("net P&L", "net_pnl"),
            number("faults", "faults"),
        ),
    ),
    (
        "Positions",
        "positions",
        (
            plain("instrument", "instrument"),
            number("quantity", "quantity"),
            price("entry", "average_entry_price"),
            price("mark", "mark"),
            signed("unrealised", "unrealized_pnl"),
            signed("realised", "realized_pnl"),
        ),
    ),
    (
        "Account",
        "account",
        (
            folded("account", "account"),
            number("equity", "equity"),
            signed("day P&L", "day_pnl"),
        ),
    ),
    (
        "Queues",
        "queues",
        (
            plain("queue", "name"),
            number("size", "size"),
            number("capacity", "capacity"),
            number("conflated", "conflated"),
            since("blocked", "blocked_s"),
        ),
    ),
)
