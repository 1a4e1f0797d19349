"""Looks at everything a daemon depends on, and says of each thing that it is ok or what to do.

Owns the order of the checks, their thresholds and their words. It starts nothing, changes nothing
and takes no lock, so that it may run before a daemon, beside one, or after one that failed.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeVar

import click
import trio
from attrs import frozen

from zq_daemon.assembly import Ports, Signer, find_signer, is_private, open_adapter, system_ports
from zq_daemon.cli.check import sound_config
from zq_daemon.cli.options import named
from zq_daemon.config.advice import advise
from zq_daemon.config.load import control_socket
from zq_daemon.config.schema import DaemonConfig
from zq_daemon.control.client import request
from zq_daemon.errors import (
    ControlError,
    CredentialError,
    JournalError,
    JournalUnavailableError,
    ZqError,
)
from zq_daemon.exit_codes import ExitCode
from zq_daemon.journal.verify import verify
from zq_daemon.ports.clock import NS_PER_MS, NS_PER_S
from zq_daemon.ports.probe import nearest_folder, probe_folder
from zq_daemon.venue.interface import ClockSkew, Credentials, VenueAdapter

LEAST_FREE_BYTES = 1 << 30
SLOW_SYNC_NS = 50 * NS_PER_MS
MOST_SKEW_NS = NS_PER_S
FEWEST_ACTIONS = 1_000
_DAY_NS = 86_400 * NS_PER_S

_Answer = TypeVar("_Answer")


@frozen
class Finding:
    """One line: *text* says what is, or (not *ok*) what to do."""

    about: str
    ok: bool
    text: str

    def __str__(self) -> str:
        return f"{'ok' if self.ok else 'DO':<3} {self.about:<12} {self.text}"


def run_doctor(config_path: Path) -> int:
    """Print a line for each check as it is done; OK, or ATTENTION where something is to be done."""
    return trio.run(_print_all, config_path)


async def _print_all(config_path: Path) -> int:
    code = ExitCode.OK
    async with aclosing(examine(config_path)) as findings:
        async for finding in findings:
            click.echo(str(finding))
            if not finding.ok:
                code = ExitCode.ATTENTION
    return code


async def examine(config_path: Path) -> AsyncGenerator[Finding, None]:
    """All checks, in the order in which an operator mends things."""
    try:
        config = sound_config(config_path)
    except CredentialError as error:
        yield Finding("credentials", False, str(error))
        return
    except ZqError as error:
        for line in str(error).splitlines():
            yield Finding("config", False, line)
        return
    for finding in _config(config, config_path):
        yield finding
    for finding in _disk(config):
        yield finding
    yield await _journal(config, config_path)
    running = await _status(config)
    for finding in _daemon(config, running):
        yield finding
    async with aclosing(_venue(config, running is not None)) as findings:
        async for finding in findings:
            yield finding


def _config(config: DaemonConfig, path: Path) -> Iterator[Finding]:
    oddities = advise(config)
    for oddity in oddities:
        yield Finding("config", False, oddity)
    if not oddities:
        yield Finding("config", True, str(path))


def _disk(config: DaemonConfig) -> Iterator[Finding]:
    folder = Path(config.state_dir)
    told = str(folder)
    try:
        where = nearest_folder(folder.absolute())
        if where != folder.absolute():
            told = f"{folder} (to be made in {where})"
        probe = probe_folder(where)
    except OSError as error:
        text = f"{told}: {error.strerror}: let this user write there, or change state_dir"
        yield Finding("disk", False, text)
        return
    free, typical = probe.free_bytes, probe.sync_ns[len(probe.sync_ns) // 2]
    room = f"{told}: {free / (1 << 30):.1f} GiB free"
    if free < LEAST_FREE_BYTES:
        yield Finding("disk", False, f"{room}: make room, the daemon stops when it is full")
    else:
        yield Finding("disk", True, room)
    sync = f"a durable write takes {typical / NS_PER_MS:.2f} ms"
    if typical > SLOW_SYNC_NS:
        text = f"{sync}, and every order waits for one: use a faster disk for state_dir"
        yield Finding("disk", False, text)
    else:
        yield Finding("disk", True, sync)


async def _journal(config: DaemonConfig, path: Path) -> Finding:
    disk = system_ports(config).disk
    try:
        found = await verify(disk, closed_orders=config.limits.closed_orders)
    except JournalUnavailableError:
        return Finding("journal", True, "there is none yet")
    except JournalError as error:
        return Finding("journal", False, f"{error}: zq-daemon journal verify{named(path)}")
    if found.problems:
        text = f"{found.problems[0]}: zq-daemon journal verify{named(path)} says what to do"
        return Finding("journal", False, text)
    return Finding("journal", True, f"sound up to record {found.opening.last_sequence}")


async def _status(config: DaemonConfig) -> Any:
    """What a running daemon says of itself; None where none runs."""
    try:
        return await request(control_socket(config), "status")
    except ControlError:
        return None


def _daemon(config: DaemonConfig, status: Any) -> Iterator[Finding]:
    if status is None:
        yield Finding("daemon", True, "not running")
        return
    about = status["daemon"]
    state = f"{about['state']}, trading {about.get('trading_state', 'not yet')}"
    halted = about.get("trading_state") == "halted"
    advice = f": {about.get('trading_reason')}; then zq-daemon activate" if halted else ""
    yield Finding("daemon", not halted, state + advice)
    for link in status.get("links", ()):
        up = link["state"] == "up"
        text = f"{link['endpoint']} is {link['state']}"
        yield Finding("link", up, text if up else f"{text}: {link['last_error']}")


async def _venue(config: DaemonConfig, running: bool) -> AsyncGenerator[Finding, None]:
    if config.exchange.enabled and not running:
        yield Finding("venue", True, "embedded: not there while the daemon does not run")
        return
    ports = system_ports(config)
    signer = find_signer(config, ports.rng)
    if config.exchange.enabled and config.venues.hyperliquid.account is None:
        signer = Signer(key=None, account=None)  # both are made by the daemon at its start
    adapter = open_adapter(config, ports, signer)
    try:
        async with aclosing(_ask_venue(config, ports, adapter)) as findings:
            async for finding in findings:
                yield finding
    finally:
        await adapter.aclose()


async def _ask_venue(
    config: DaemonConfig, ports: Ports, adapter: VenueAdapter
) -> AsyncGenerator[Finding, None]:
    found = await _asked("venue", adapter.load_instruments)
    if isinstance(found, Finding):
        yield found
        return
    yield Finding("venue", True, f"{adapter.venue} lists {len(found)} instruments")
    skew = await _asked("clock", adapter.measure_clock)
    yield skew if isinstance(skew, Finding) else _clock(skew)
    for endpoint in config.ws_endpoints:
        try:
            adapter.session([each for each in endpoint.streams if not adapter.is_private((each,))])
        except ValueError as error:
            yield Finding("streams", False, str(error))
    if not any(is_private(endpoint) for endpoint in config.ws_endpoints):
        return
    credentials = await _asked("credentials", adapter.check_credentials)
    if isinstance(credentials, Finding):
        yield credentials
    elif credentials is not None:
        yield _credentials(config, ports, credentials)
        left = await _asked("budget", adapter.actions_left)
        yield left if isinstance(left, Finding) else _budget(left)


async def _asked(about: str, ask: Callable[[], Awaitable[_Answer]]) -> _Answer | Finding:
    """The venue's answer, or what became of the question."""
    try:
        return await ask()
    except ZqError as error:
        return Finding(about, False, str(error))


def _clock(skew: ClockSkew) -> Finding:
    seconds, error = skew.ahead_ns / NS_PER_S, skew.error_ns / NS_PER_S
    told = f"{abs(seconds):.3f} s {'ahead of' if seconds > 0 else 'behind'} the venue's"
    told = f"this machine's clock is {told} (to {error:.3f} s)"
    if abs(skew.ahead_ns) - skew.error_ns > MOST_SKEW_NS:
        return Finding("clock", False, f"{told}: set it right (timedatectl set-ntp true)")
    return Finding("clock", True, told)


def _credentials(config: DaemonConfig, ports: Ports, found: Credentials) -> Finding:
    told = f"{found.signer or 'nobody'} signs for {found.account} ({found.relation})"
    if found.valid_until_ns is None:
        return Finding("credentials", True, told)
    days = (found.valid_until_ns - ports.clock.now_ns()) / _DAY_NS
    told = f"{told}, for {days:.1f} more days"
    if days <= config.venues.hyperliquid.agent_warning_days:
        return Finding("credentials", False, f"{told}: approve another agent and use its key")
    return Finding("credentials", True, told)


def _budget(left: int | None) -> Finding:
    if left is None:
        return Finding("budget", True, "the venue tells none")
    if left < FEWEST_ACTIONS:
        text = f"{left} actions are left to the account: each USDC traded gives one more"
        return Finding("budget", False, f"{text}; quote less often")
    return Finding("budget", True, f"{left} actions are left to the account")
