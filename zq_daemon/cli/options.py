"""The options that several commands share, and what they mean."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

_CONFIG = Path("config.toml")

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, readable=False),
    default=_CONFIG,
    show_default=True,
    envvar="ZQ_DAEMON_CONFIG",
    help="The configuration file.",
)
socket_option = click.option(
    "--socket",
    "socket_path",
    type=click.Path(path_type=Path),
    help="The daemon's control socket (default: the one the configuration names).",
)


def socket_of(config_path: Path, socket_path: Path | None) -> Path:
    """Where the daemon listens: *socket_path*, else as the configuration says.

    Raises ConfigError where that cannot be read.
    """
    from zq_daemon.config.load import control_socket, load_config

    return socket_path or control_socket(load_config(config_path))


def named(config_path: Path) -> str:
    """How a command that is advised has to name the configuration; nothing for the default one."""
    return "" if config_path == _CONFIG else f" --config {shlex.quote(str(config_path))}"
