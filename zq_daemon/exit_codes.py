"""The exit codes of the `zq-daemon` command, as README documents them.

Where a meaning of `sysexits.h` fits, its number is used: service managers know those.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended."""

    OK = 0
    FAULT = 1
    USAGE = 2
    UNVERIFIED = 3
    UNAVAILABLE = 69
    SOFTWARE = 70
    CREDENTIALS = 77
    CONFIG = 78
