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

from zq_daemon.cli.journal import journal
from zq_daemon.cli.operator import COMMANDS
from zq_daemon.cli.options import config_option, socket_of, socket_option
from zq_daemon.errors import ZqError
from zq_daemon.exit_codes import ExitCode
from zq_daemon.version import VERSION


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
@config_option
def run(config_path: Path) -> int:
    """Start the daemon and trade until it is stopped (Ctrl-C, SIGTERM, `zq-daemon stop`)."""
    from zq_daemon import daemon
    from zq_daemon.cli.check import sound_config
    from zq_daemon.telemetry.logging import configure

    config = sound_config(config_path)
    configure(config.log.level, config.log.format)
    return daemon.run(config, config_path=config_path.absolute())


@commands.command()
@config_option
def check(config_path: Path) -> int:
    """Check the configuration, and the strategies it names, without starting anything."""
    from zq_daemon.cli.check import check_config

    click.echo(check_config(config_path))
    return ExitCode.OK


@commands.command()
@config_option
def doctor(config_path: Path) -> int:
    """Look at all that a daemon needs: a line each that says ok, or (DO) what to do.

    Configuration, disk, journal, a running daemon, and at the venue: clock, key, streams, budget.
    Exit 0 when all is ok, 4 when something is to be done.
    """
    from zq_daemon.cli.doctor import run_doctor

    return run_doctor(config_path)


@commands.command()
@click.option("--port", type=click.IntRange(1, 65_535), required=True, help="HTTP and WebSocket.")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--seed", type=click.IntRange(0), help="A made-up market, the same each time.")
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
    "--follow",
    metavar="URL",
    help="Paper trading: the live market of the venue with this API, https://api.hyperliquid.xyz",
)
@click.option(
    "--queue",
    type=click.Choice(["front", "back", "proportional"]),
    default="back",
    show_default=True,
    help="Followed or replayed: where a resting order stands among what is shown at its price.",
)
@click.option(
    "--order-latency-ms",
    type=click.IntRange(0, 60_000),
    default=100,
    show_default=True,
    help="Followed: how long an order takes to get there.",
)
@click.option(
    "--balance",
    type=_DecimalType(),
    default="100000",
    show_default=True,
    help="What a new account holds, in USDC.",
)
@click.option(
    "--funding-interval-ms",
    type=click.IntRange(1_000, 604_800_000),
    default=3_600_000,
    show_default=True,
    help="How often funding is paid.",
)
@click.option("--strict-accounts", is_flag=True, help="No address has an account by itself.")
@click.option("--rate-limits", is_flag=True, help="Refuse what is too much, as the venue does.")
@click.option(
    "--network",
    type=click.Choice(["either", "mainnet", "testnet"]),
    default="either",
    show_default=True,
    help="Whose signatures to accept; of either, that of an address heard of before.",
)
@click.option(
    "--faults",
    type=click.Path(path_type=Path, readable=False),
    help="For testing clients: misbehave as this TOML file says; SIGHUP reads it again.",
)
def exchange(
    port: int,
    host: str,
    seed: int | None,
    replay: Path | None,
    speed: Decimal,
    follow: str | None,
    queue: Literal["front", "back", "proportional"],
    order_latency_ms: int,
    balance: Decimal,
    funding_interval_ms: int,
    strict_accounts: bool,
    rate_limits: bool,
    network: Literal["either", "mainnet", "testnet"],
    faults: Path | None,
) -> int:
    """Run the embedded exchange alone: a market to try strategies on.

    The keys of a file of --faults are the fields of `Faults` in zq_daemon/venue/exchange/faults.py,
    such as `cancel_latency_ms = 500`.
    """
    if sum(chosen is not None for chosen in (seed, replay, follow)) > 1:
        raise click.UsageError("there is one market: give one of --seed, --replay and --follow")
    from zq_daemon.cli.exchange import run_exchange
    from zq_daemon.config.schema import ExchangeConfig
    from zq_daemon.telemetry.logging import configure

    configure("info")
    config = ExchangeConfig(
        host=host,
        port=port,
        seed=seed,
        replay=None if replay is None else str(replay),
        speed=speed,
        follow=follow,
        queue=queue,
        order_latency_ms=order_latency_ms,
        account_balance=balance,
        funding_interval_ms=funding_interval_ms,
        strict_accounts=strict_accounts,
        rate_limits=rate_limits,
    )
    run_exchange(config, network, faults)
    return ExitCode.OK


@commands.command()
@config_option
@socket_option
def reload(config_path: Path, socket_path: Path | None) -> int:
    """Let the running daemon read its configuration again, and wait until it has."""
    from zq_daemon.cli.reload import reload_daemon

    click.echo(reload_daemon(socket_of(config_path, socket_path)))
    return ExitCode.OK


@commands.command()
def version() -> int:
    """Print the version."""
    click.echo(VERSION)
    return ExitCode.OK


for _command in (*COMMANDS, journal):
    commands.add_command(_command)


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
