"""Draws what keeps orders from being lost: journal, recovery, history, watchdog, what is in doubt.

One line for each that the daemon told of. The keys that are understood, all of them optional:

* `journal`: written_sequence, durable_sequence, commits, pending_records, segments_made, bytes,
  folder, damage (a list of texts)
* `recovery`: asked, resolved, adopted, cancelled, unresolved, fills, complete, adjusted (texts)
* `history`: sequence, behind, path
* `watchdog`: interval_s, fed, last_fed_s, late, lost
* `execution`: in_doubt, external_orders (how many by what was done: adopt, cancel, report)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.table import Table
from rich.text import Text

from zq_daemon.cli.columns import Row, duration, part_of, text_of

_DONE = {"adopt": "adopted", "cancel": "cancelled", "report": "reported"}
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def draw_durability(status: Row) -> Table | None:
    """The lines there is something to say on; None where there is none."""
    lines = [
        (name, line)
        for name, line in (
            ("journal", _journal(part_of(status, "journal"))),
            ("history", _history(part_of(status, "history"))),
            ("recovery", _recovery(part_of(status, "recovery"))),
            ("in doubt", _in_doubt(part_of(status, "execution"))),
            ("external", _external(part_of(status, "execution"))),
            ("watchdog", _watchdog(part_of(status, "watchdog"))),
        )
        if line
    ]
    if not lines:
        return None
    table = Table.grid(padding=(0, 2), pad_edge=False)
    table.title, table.title_justify, table.title_style = "\nDurability", "left", "bold"
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, line in lines:
        table.add_row(Text(name, style="dim"), line)
    return table


def _journal(journal: Row) -> Text:
    told = [*_named(journal, "written_sequence", "durable_sequence", "commits", "segments_made")]
    if journal.get("pending_records"):
        told += _named(journal, "pending_records")
    line = Text("  ".join(told))
    if journal.get("bytes") is not None:
        line.append(f"  {_size(journal['bytes'])}")
    if journal.get("folder") is not None:
        line.append(f"  {text_of(journal['folder'])}", style="dim")
    for damage in _texts(journal.get("damage")):
        line.append(f"\n{damage}", style="red")
    return line


def _history(history: Row) -> Text:
    line = Text("  ".join(_named(history, "sequence", "behind")))
    if history.get("path") is not None:
        line.append(f"  {text_of(history['path'])}", style="dim")
    return line


def _recovery(recovery: Row) -> Text:
    told = ("asked", "resolved", "adopted", "cancelled", "unresolved", "fills")
    line = Text("  ".join(_named(recovery, *told)))
    if recovery.get("unresolved"):
        line.stylize("yellow")
    if recovery.get("complete") is False:
        line.append("\nthe venue does not keep every fill since the last known one", style="red")
    for adjusted in _texts(recovery.get("adjusted")):
        line.append(f"\ntaken over from the venue: {adjusted}", style="red")
    return line


def _in_doubt(execution: Row) -> Text:
    count = execution.get("in_doubt")
    if not count:
        return Text("")
    return Text(f"{text_of(count)} orders: the venue is being asked about them", style="yellow")


def _external(execution: Row) -> Text:
    counts = part_of(execution, "external_orders")
    told = [f"{_DONE.get(name, text_of(name))} {text_of(counts[name])}" for name in counts]
    return Text("  ".join(told), style="yellow")


def _watchdog(watchdog: Row) -> Text:
    told = []
    if watchdog.get("interval_s") is not None:
        told.append(f"every {duration(watchdog['interval_s'])}")
    told += _named(watchdog, "fed")
    if watchdog.get("last_fed_s") is not None:
        told.append(f"last {duration(watchdog['last_fed_s'])} ago")
    if watchdog.get("lost"):
        told += _named(watchdog, "lost")
    line = Text("  ".join(told))
    if watchdog.get("late"):
        line.append("  the trading loop does not turn", style="red")
    return line


def _named(section: Row, *names: str) -> Iterator[str]:
    for name in names:
        if section.get(name) is not None:
            yield f"{name.replace('_', ' ')} {text_of(section[name])}"


def _texts(value: Any) -> list[str]:
    return [text_of(one) for one in value] if isinstance(value, list) else []


def _size(value: Any) -> str:
    """Bytes as `512 B`, `3.2 MiB`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return text_of(value)
    size = float(value)
    for unit in _UNITS[:-1]:
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} {_UNITS[-1]}"
