"""The commands that tell a running daemon something: stop, halt, activate, resume, cancel-all, and
what they look at before: status, orders, positions, reconcile. Owns options, wording and exit
codes; the daemon does the work, over its control socket.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from zq_daemon.cli.options import config_option, socket_of, socket_option
from zq_daemon.exit_codes import ExitCode

_MOST_ORDERS = 10_000
_MOST_S = 3_600.0
"""The limits of the daemon, so that help can tell them without importing it."""
_ANSWER_S = 10.0
"""How much longer than it is to wait the daemon may take to answer."""
_NAMED = 20


def _narrowing(command: Callable[..., Any]) -> Callable[..., Any]:
    instrument = click.option(
        "--instrument", metavar="ID", help="Only of this instrument, e.g. hyperliquid.BTC."
    )
    return _of_strategy(instrument(command))


def _kind(name: str, told: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(f"--{name.replace('_', '-')}", name, is_flag=True, help=told)


_of_strategy = click.option("--strategy", metavar="NAME", help="Only of this strategy.")
_as_json = click.option("--json", "as_json", is_flag=True, help="One line of JSON, not tables.")
_why = click.argument("reason", required=False)


@click.command()
@config_option
@socket_option
@_as_json
@click.option("--watch", is_flag=True, help="Redraw every second until Ctrl-C.")
def status(config_path: Path, socket_path: Path | None, as_json: bool, watch: bool) -> int:
    """Show what the running daemon does."""
    from zq_daemon.cli.status import show_status, watch_status

    path = socket_of(config_path, socket_path)
    if watch:
        watch_status(path, as_json=as_json)
    else:
        show_status(path, as_json=as_json)
    return ExitCode.OK


@click.command()
@config_option
@socket_option
@_narrowing
@_kind("live", "Not ended. The default.")
@_kind("open", "Confirmed by the venue and not ended.")
@_kind("in_flight", "With a request of unknown outcome.")
@_kind("unknown", "In doubt: since when, why, and what is awaited.")
@_kind("closed", "Ended, as far back as remembered.")
@click.option(
    "--limit",
    type=click.IntRange(1, _MOST_ORDERS),
    default=1_000,
    show_default=True,
    help="How many at most; the newest are shown.",
)
@_as_json
def orders(
    config_path: Path,
    socket_path: Path | None,
    strategy: str | None,
    instrument: str | None,
    limit: int,
    as_json: bool,
    **kinds: bool,
) -> int:
    """List the orders of the running daemon, oldest first."""
    from zq_daemon.cli.listings import render_orders
    from zq_daemon.cli.status import ask, show

    given = [name for name, is_given in kinds.items() if is_given]
    if len(given) > 1:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise click.UsageError(f"{flags}: give one of them")
    kind = given[0] if given else "live"
    asked = _given(kind=kind, strategy=strategy, instrument=instrument, limit=limit)
    answer = ask(socket_of(config_path, socket_path), "orders", **asked)
    show(answer, render_orders, as_json=as_json)
    return ExitCode.OK


@click.command()
@config_option
@socket_option
@_of_strategy
@_as_json
def positions(
    config_path: Path, socket_path: Path | None, strategy: str | None, as_json: bool
) -> int:
    """Show what the accounts hold and what each strategy made.

    A strategy's positions are the sum of its own fills. Tables round: see --json.
    """
    from zq_daemon.cli.listings import render_positions
    from zq_daemon.cli.status import ask, show

    path = socket_of(config_path, socket_path)
    answer = ask(path, "positions", **_given(strategy=strategy))
    show(answer, render_positions, as_json=as_json)
    return ExitCode.OK


@click.command()
@config_option
@socket_option
@click.option("--dry-run", is_flag=True, help="Only show what differs and what would be done.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, _MOST_S),
    metavar="S",
    default=60,
    show_default=True,
    help="How many seconds the venue may take.",
)
@_as_json
def reconcile(
    config_path: Path, socket_path: Path | None, dry_run: bool, timeout_s: float, as_json: bool
) -> int:
    """Compare the running daemon with the venue now, and settle what differs as a start does.

    Orders are asked about, fills fetched, and positions that still differ taken over from the
    venue, which lifts the halt of their account. The daemon does the first two by itself.
    """
    from zq_daemon.cli.listings import render_reconciliation
    from zq_daemon.cli.status import ask, show

    path, patience_s = socket_of(config_path, socket_path), timeout_s + _ANSWER_S
    asked = {"dry_run": dry_run, "wait_s": timeout_s}
    answer = ask(path, "reconcile", timeout_s=patience_s, **asked)
    show(answer, render_reconciliation, as_json=as_json)
    return ExitCode.OK


@click.command()
@config_option
@socket_option
@_why
def stop(config_path: Path, socket_path: Path | None, reason: str | None) -> int:
    """Ask the running daemon to stop gracefully, for REASON; does not wait for it.

    Orders that are not the daemon's and are only reported (external_orders) are left alone.
    """
    return _tell(config_path, socket_path, "stop", reason=reason)


@click.command()
@config_option
@socket_option
@_why
def halt(config_path: Path, socket_path: Path | None, reason: str | None) -> int:
    """Pull the kill switch, for REASON: no order leaves any more, open ones are cancelled.

    Orders that are not the daemon's and are only reported (external_orders) are left alone.
    Trading stays halted, also over a restart, until `activate`. `cancel-all` then waits until the
    venue has confirmed the cancels.
    """
    return _tell(config_path, socket_path, "halt", reason=reason)


@click.command()
@config_option
@socket_option
@_why
def activate(config_path: Path, socket_path: Path | None, reason: str | None) -> int:
    """Let the running daemon trade again after a halt, for REASON.

    A loss of the day that caused the halt is accepted by it. Strategies that were halted on their
    own stay so: see `resume`.
    """
    return _tell(config_path, socket_path, "activate", reason=reason)


@click.command()
@config_option
@socket_option
@click.argument("strategy")
def resume(config_path: Path, socket_path: Path | None, strategy: str) -> int:
    """Let STRATEGY, which was halted, go on where it was.

    Exits with 69 if it cannot: one that is faulted or stopped needs a restart of the daemon.
    """
    return _tell(config_path, socket_path, "resume", strategy=strategy)


@click.command("cancel-all")
@config_option
@socket_option
@_narrowing
@click.option(
    "--wait/--no-wait",
    default=True,
    show_default=True,
    help="Wait until every one of them has ended, or only have them cancelled.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(0, _MOST_S),
    metavar="S",
    default=10,
    show_default=True,
    help="How many seconds to wait at most.",
)
def cancel_all(
    config_path: Path,
    socket_path: Path | None,
    strategy: str | None,
    instrument: str | None,
    wait: bool,
    timeout_s: float,
) -> int:
    """Cancel every order that lives now, and wait until the venue has confirmed it.

    Orders that are not the daemon's and are only reported (external_orders) are left alone.
    Strategies trade on and may place new ones: `halt` first prevents that. Exits with 3 if the end
    of some orders was not confirmed in time; the daemon then goes on trying.
    """
    from zq_daemon.cli.status import ask

    asked = _given(strategy=strategy, instrument=instrument, wait_s=timeout_s if wait else None)
    path, patience_s = socket_of(config_path, socket_path), timeout_s * wait + _ANSWER_S
    answer = ask(path, "cancel-all", timeout_s=patience_s, **asked)
    if not wait:
        click.echo(f"{_count(answer, 'asked')} to be cancelled: zq-daemon orders shows what lives")
        return ExitCode.OK
    unverified = _count(answer, "unverified")
    click.echo(_outcome(answer, unverified))
    return ExitCode.UNVERIFIED if unverified else ExitCode.OK


COMMANDS = (status, orders, positions, reconcile, stop, halt, activate, resume, cancel_all)


def _tell(config_path: Path, socket_path: Path | None, command: str, **given: str | None) -> int:
    """Send *command* and print what the daemon says to it."""
    from zq_daemon.cli.columns import text_of
    from zq_daemon.cli.status import ask

    click.echo(text_of(ask(socket_of(config_path, socket_path), command, **_given(**given))))
    return ExitCode.OK


def _given(**values: Any) -> dict[str, Any]:
    """What was given on the command line: the daemon has its own defaults for the rest."""
    return {name: value for name, value in values.items() if value is not None}


def _outcome(answer: Any, unverified: int) -> str:
    from zq_daemon.cli.columns import text_of

    told = f"{_count(answer, 'cancelled')} cancelled, {unverified} unverified"
    if otherwise := _count(answer, "otherwise"):
        told += f", {otherwise} ended otherwise (filled, refused or expired)"
    named = answer.get("unverified_orders")
    named = named if isinstance(named, list) else []
    lines = [f"unverified: {text_of(each)}" for each in named[:_NAMED]]
    if lines and unverified > len(lines):
        lines.append(f"and {unverified - len(lines)} more: zq-daemon orders")
    return "\n".join([told, *lines])


def _count(answer: Any, name: str) -> int:
    """A number that the daemon has to have sent: without it nothing is known to have happened."""
    from zq_daemon.errors import ControlError

    count = answer.get(name) if isinstance(answer, dict) else None
    if type(count) is not int:
        raise ControlError("the daemon did not say what became of the orders: see its log")
    return count
