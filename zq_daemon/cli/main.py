"""The `zq-daemon` command. Owns options and exit codes; the work is imported inside the commands,
so that `--help` and completion stay quick.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Literal

import click

from zq_daemon.errors import ZqError
from zq_daemon.exit_codes import ExitCode
from zq_daemon.version import VERSION

_config = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, readable=False),
    default=Path("config.toml"),
    show_default=True,
    envvar="ZQ_DAEMON_CONFIG",
    help="The configuration file.",
)
_socket = click.option(
    "--socket",
    "socket_path",
    type=click.Path(path_type=Path),
    help="The daemon's control socket (default: the one the configuration names).",
)


class _DecimalType(click.ParamType[Decimal]):
    name = "number"

    def convert(self, value: Any, param: Any, ctx: Any) -> Decimal:
        try:
            number = Decimal(value)
        except InvalidOperation:
            number = Decimal("NaN")
        if not number.is_finite() or number < 0:
            self.fail(f"{value!r} is not a number of at least 0", param, ctx)
        return number


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(VERSION, prog_name="zq-daemon", message="%(prog)s %(version)s")
def commands() -> None:
    """A trading daemon: live market data through a message bus to strategies that trade."""


@commands.command()
@_config
def run(config_path: Path) -> int:
    """Start the daemon and trade until it is stopped (Ctrl-C, SIGTERM, `zq-daemon stop`)."""
    from zq_daemon import daemon
    from zq_daemon.cli.check import sound_config
    from zq_daemon.telemetry.logging import configure

    config = sound_config(config_path)
    configure(config.log.level, config.log.format)
    return daemon.run(config, config_path=config_path)


@commands.command()
@_config
def check(config_path: Path) -> int:
    """Check the configuration, and the strategies it names, without starting anything."""
    from zq_daemon.cli.check import check_config

    click.echo(check_config(config_path))
    return ExitCode.OK


@commands.command()
@click.option("--port", type=click.IntRange(1, 65_535), required=True, help="HTTP and WebSocket.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--seed", type=click.IntRange(0), help="A synthetic market that replays.")
@click.option(
    "--replay",
    type=click.Path(path_type=Path, readable=False),
    help="A capture, plain or .gz.",
)
@click.option(
    "--speed",
    type=_DecimalType(),
    default="1",
    show_default=True,
    help="How many times faster to replay; 0: as fast as clients take it.",
)
@click.option(
    "--network",
    type=click.Choice(["mainnet", "testnet"]),
    default="mainnet",
    show_default=True,
    help="Whose signatures to accept.",
)
def exchange(
    port: int,
    host: str,
    seed: int | None,
    replay: Path | None,
    speed: Decimal,
    network: Literal["mainnet", "testnet"],
) -> int:
    """Run the embedded exchange alone: a market to try strategies on."""
    if seed is not None and replay is not None:
        raise click.UsageError("a market is seeded or replayed: give --seed or --replay, not both")
    from zq_daemon.cli.exchange import run_exchange
    from zq_daemon.config.schema import ExchangeConfig
    from zq_daemon.telemetry.logging import configure

    configure("info")
    source = None if replay is None else str(replay)
    config = ExchangeConfig(host=host, port=port, seed=seed, replay=source, speed=speed)
    run_exchange(config, network)
    return ExitCode.OK


@commands.command()
@_config
@_socket
@click.option("--json", "as_json", is_flag=True, help="One line of JSON instead of tables.")
@click.option("--watch", is_flag=True, help="Redraw every second until Ctrl-C.")
def status(config_path: Path, socket_path: Path | None, as_json: bool, watch: bool) -> int:
    """Show what the running daemon does."""
    from zq_daemon.cli.status import show_status, watch_status

    path = socket_path or _socket_of(config_path)
    if watch:
        watch_status(path, as_json=as_json)
    else:
        show_status(path, as_json=as_json)
    return ExitCode.OK


@commands.command()
@_config
@_socket
def stop(config_path: Path, socket_path: Path | None) -> int:
    """Ask the running daemon to stop gracefully."""
    from zq_daemon.cli.status import ask

    ask(socket_path or _socket_of(config_path), "stop")
    click.echo("stopping")
    return ExitCode.OK


@commands.command()
@_config
@_socket
def halt(config_path: Path, socket_path: Path | None) -> int:
    """Let no order leave the running daemon any more, and cancel what is open."""
    from zq_daemon.cli.status import ask

    click.echo(ask(socket_path or _socket_of(config_path), "halt"))
    return ExitCode.OK


@commands.command()
@_config
@_socket
def activate(config_path: Path, socket_path: Path | None) -> int:
    """Let the running daemon trade again after a halt."""
    from zq_daemon.cli.status import ask

    click.echo(ask(socket_path or _socket_of(config_path), "activate"))
    return ExitCode.OK


@commands.command()
def version() -> int:
    """Print the version."""
    click.echo(VERSION)
    return ExitCode.OK


def main(arguments: Sequence[str] | None = None) -> None:
    """The entry point: run the command and exit with its code."""
    sys.exit(run_command(arguments))


def run_command(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; what went wrong is on stderr."""
    from zq_daemon.cli.failures import explain

    try:
        code = commands.main(arguments, prog_name="zq-daemon", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return ExitCode.USAGE
    except click.Abort:
        return ExitCode.OK
    except (ZqError, ExceptionGroup) as error:
        told = explain(error)
        if told is None:
            raise
        click.echo(told[0], err=True)
        return told[1]
    return int(code or ExitCode.OK)


def _socket_of(config_path: Path) -> Path:
    from zq_daemon.config.load import control_socket, load_config

    return control_socket(load_config(config_path))
