"""The `zq-daemon journal` commands: look into the journal, compact it, build the history anew.

Owns options and exit codes; the work is in `cli.journal_work`, imported inside the commands.
"""

from __future__ import annotations

from pathlib import Path

import click

from zq_daemon.cli.options import config_option


@click.group()
def journal() -> None:
    """Look after the journal: what a daemon knows when it starts again."""


@journal.command()
@config_option
@click.option(
    "--accept-damage",
    is_flag=True,
    help="Go on without the records that are lost, halted at first. With the daemon stopped only.",
)
def verify(config_path: Path, accept_damage: bool) -> int:
    """Read and replay everything; exit 0 when it can be trusted, 65 when not, 69 without one.

    Changes nothing without --accept-damage, and may then run beside a daemon.
    """
    from zq_daemon.cli import journal_work

    if accept_damage:
        return journal_work.accept(config_path)
    return journal_work.verify_journal(config_path)


@journal.command()
@config_option
@click.option("--order", metavar="ID", help="Only of the order with this client order id.")
@click.option("--from", "first", type=click.IntRange(1), default=1, help="From this record on.")
@click.option("--type", "kind", metavar="TYPE", help="Only of this type, e.g. OrderFilled.")
@click.option("--limit", type=click.IntRange(1), help="At most so many.")
@click.option("--all", "archived", is_flag=True, help="Archived records too.")
def dump(
    config_path: Path,
    order: str | None,
    first: int,
    kind: str | None,
    limit: int | None,
    archived: bool,
) -> int:
    """Print records, one line of JSON each."""
    from zq_daemon.cli import journal_work

    wanted = journal_work.Wanted(order=order, kind=kind, first=first, limit=limit)
    return journal_work.dump(config_path, wanted, archived=archived)


@journal.command()
@config_option
def compact(config_path: Path) -> int:
    """Write a checkpoint, and move the segments it covers to the archive, compressed.

    Loses nothing, never passes a registered consumer, and may run beside a daemon.
    """
    from zq_daemon.cli import journal_work

    return journal_work.compact_journal(config_path)


@journal.command("rebuild-history")
@config_option
def rebuild(config_path: Path) -> int:
    """Build `history.sqlite` anew from the journal; not beside a daemon."""
    from zq_daemon.cli import journal_work

    return journal_work.rebuild(config_path)
