"""The commands that ask a running daemon: over its control socket, shown as tables or JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec
import trio
from rich.console import Console
from rich.live import Live
from rich.text import Text

from zq_daemon.cli.tables import render_status
from zq_daemon.control.client import request
from zq_daemon.errors import ControlError

_INTERVAL_S = 1.0
_FILE_WIDTH = 140


def ask(path: Path, command: str) -> Any:
    """The daemon's answer to one command."""
    return trio.run(request, path, command)


def show_status(path: Path, *, as_json: bool) -> None:
    """Print the daemon's status once."""
    status = ask(path, "status")
    if as_json:
        click.echo(msgspec.json.encode(status))
    else:
        _console().print(render_status(status))


def watch_status(path: Path, *, as_json: bool) -> None:
    """Print or redraw the status every second until Ctrl-C; a daemon that went away is waited for.

    Raises ControlError when there is none at the start.
    """
    first = ask(path, "status")
    try:
        trio.run(_print_all if as_json else redraw, path, first)
    except KeyboardInterrupt:
        return


def _console() -> Console:
    """As wide as the terminal; what goes elsewhere has room for every column."""
    console = Console()
    return console if console.is_terminal else Console(width=_FILE_WIDTH)


async def _print_all(path: Path, status: Any) -> None:
    while True:
        click.echo(msgspec.json.encode(status))
        await trio.sleep(_INTERVAL_S)
        status = await request(path, "status")


async def redraw(path: Path, status: Any) -> None:
    """Draw *status*, and every second what the daemon at *path* says then, until cancelled."""
    with Live(render_status(status), console=_console(), auto_refresh=False) as live:
        while True:
            await trio.sleep(_INTERVAL_S)
            live.update(await _drawn(path), refresh=True)


async def _drawn(path: Path) -> Any:
    try:
        return render_status(await request(path, "status"))
    except ControlError as error:
        return Text(f"{error}; waiting for it", style="yellow")
