"""Asks a running daemon over its control socket, and shows its answers as tables or JSON."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import msgspec
import trio
from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from zq_daemon.cli.tables import render_status
from zq_daemon.control.arguments import BadRequest
from zq_daemon.control.client import TIMEOUT_S, request
from zq_daemon.errors import ControlError

_INTERVAL_S = 1.0
_FILE_WIDTH = 140


def ask(path: Path, command: str, *, timeout_s: float = TIMEOUT_S, **args: Any) -> Any:
    """The daemon's answer to one command, for which it has *timeout_s*.

    Raises UsageError where the daemon says that it was asked wrongly, ControlError as `request`.
    """
    try:
        return trio.run(partial(request, path, command, timeout_s=timeout_s, **args))
    except BadRequest as error:
        raise click.UsageError(str(error)) from None


def show(answer: Any, render: Callable[[Any], RenderableType], *, as_json: bool) -> None:
    """Print *answer* as one line of JSON or as *render* draws it."""
    if as_json:
        click.echo(msgspec.json.encode(answer))
    else:
        _console().print(render(answer))


def show_status(path: Path, *, as_json: bool) -> None:
    """Print the daemon's status once."""
    show(ask(path, "status"), render_status, as_json=as_json)


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
    """As wide as the terminal, or as COLUMNS says; else there is room for every column."""
    console = Console()
    has_width = console.is_terminal or os.environ.get("COLUMNS", "").isdecimal()
    return console if has_width else Console(width=_FILE_WIDTH)


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
