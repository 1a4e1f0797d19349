"""The exit codes of the `zq-daemon` command, as README documents them.

Where a meaning of `sysexits.h` fits, its number is used: service managers know those.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from zq_daemon.errors import (
    ConfigError,
    ControlError,
    CredentialError,
    JournalDamagedError,
    JournalUnavailableError,
    LinkError,
    LinkRefused,
    LogInUseError,
    LogVersionError,
    StrategyError,
    UnresolvedOrdersError,
    ZqError,
)


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    FAULT = 1
    USAGE = 2
    UNVERIFIED = 3
    ATTENTION = 4
    DATA = 65
    UNAVAILABLE = 69
    SOFTWARE = 70
    CREDENTIALS = 77
    CONFIG = 78


_CODES: tuple[tuple[type[ZqError] | tuple[type[ZqError], ...], ExitCode], ...] = (
    (CredentialError, ExitCode.CREDENTIALS),
    ((ConfigError, StrategyError, UnresolvedOrdersError), ExitCode.CONFIG),
    ((JournalDamagedError, LogVersionError), ExitCode.DATA),
    (
        (LinkError, LinkRefused, ControlError, LogInUseError, JournalUnavailableError),
        ExitCode.UNAVAILABLE,
    ),
)


def exit_code_of(errors: Iterable[BaseException]) -> ExitCode:
    """The code for what went wrong: that of the error an operator has to mend first."""
    told = tuple(errors)
    for kind, code in _CODES:
        if any(isinstance(error, kind) for error in told):
            return code
    return ExitCode.SOFTWARE
