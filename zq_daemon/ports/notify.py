"""The supervisor port: tells the service manager how the daemon is (sd_notify(3)), one way only.

Owns the datagram socket, its address and what the environment says of a watchdog. It never blocks
and never fails its caller: a supervisor that is gone must not stop the trading; what it could not
be told is counted. When to say what is `runtime.notify`'s.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Mapping, MutableMapping
from typing import Protocol

MAX_MESSAGE_BYTES = 4096
"""systemd reads no more of one datagram (NOTIFY_BUFFER_MAX)."""

_MAX_ADDRESS_BYTES = 107
"""Of sun_path, without the zero that ends a path or begins an abstract name (unix(7))."""
_FOREVER_US = 2**64 - 1
"""USEC_INFINITY: systemd's word for no limit."""
_VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
_REMEMBERED = 1000


class Notify(Protocol):
    """Where the daemon says how it is."""

    @property
    def watchdog_us(self) -> int | None:
        """Within how many microseconds a sign of life is expected; None: nobody expects one."""

    @property
    def lost(self) -> int:
        """How many messages could not be handed over."""

    @property
    def oddities(self) -> tuple[str, ...]:
        """What was wrong with the supervisor's own settings, for the log."""

    def send(self, assignments: Mapping[str, str]) -> bool:
        """Hand over one message of `KEY=value` lines, without waiting; False: it was lost.

        ValueError for a value of several lines, or a message over MAX_MESSAGE_BYTES: a caller's
        mistake, which would otherwise say something that nobody meant.
        """


class SystemNotify:
    """Datagrams to the socket of the service manager."""

    def __init__(
        self, address: str, *, watchdog_us: int | None = None, oddities: tuple[str, ...] = ()
    ) -> None:
        """*address* is an absolute path, or `@` and an abstract name; ValueError for another."""
        _check_address(address)
        self.watchdog_us = watchdog_us
        self.oddities = oddities
        self.lost = 0
        self._address = f"\0{address[1:]}" if address.startswith("@") else address

    def send(self, assignments: Mapping[str, str]) -> bool:
        """Send at once or not at all: a full queue, a missing socket or a dead reader is a loss."""
        message = encode(assignments)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto(message, self._address)
        except OSError:
            self.lost += 1
            return False
        return True


class MemoryNotify:
    """Remembers the last messages: for simulation. *deaf*: every message is lost from now on."""

    def __init__(self, *, watchdog_us: int | None = None) -> None:
        self.watchdog_us = watchdog_us
        self.oddities: tuple[str, ...] = ()
        self.lost = 0
        self.deaf = False
        self.sent: deque[Mapping[str, str]] = deque(maxlen=_REMEMBERED)

    def send(self, assignments: Mapping[str, str]) -> bool:
        """Remember the message, unless deaf."""
        encode(assignments)
        if self.deaf:
            self.lost += 1
            return False
        self.sent.append(dict(assignments))
        return True


class _Nobody:
    """No supervisor: everything said is heard by nobody, which is no loss."""

    watchdog_us: int | None = None
    lost = 0

    def __init__(self, oddities: tuple[str, ...]) -> None:
        self.oddities = oddities

    def send(self, assignments: Mapping[str, str]) -> bool:
        encode(assignments)
        return True


def no_notify(oddities: tuple[str, ...] = ()) -> Notify:
    """The port of a daemon that nobody supervises."""
    return _Nobody(oddities)


def system_notify(environ: MutableMapping[str, str] | None = None) -> Notify:
    """The supervisor that *environ* (the process's own when None) names; `no_notify` for none.

    The variables are taken out: a child that inherited them could speak for the daemon. So only the
    first call in a process finds anything; for the daemon's own process, not for a program that
    embeds it. Settings that make no sense are `oddities` and otherwise as if absent.
    """
    taken = _take(os.environ if environ is None else environ)
    address = taken.get("NOTIFY_SOCKET")
    if not address:
        return no_notify()
    oddities: list[str] = []
    try:
        watchdog_us = _watchdog_us(taken)
    except ValueError as error:
        watchdog_us = None
        oddities.append(f"{error}: no watchdog is fed")
    try:
        return SystemNotify(address, watchdog_us=watchdog_us, oddities=tuple(oddities))
    except ValueError as error:
        return no_notify((*oddities, f"{error}: the service manager is told nothing"))


def encode(assignments: Mapping[str, str]) -> bytes:
    """The datagram for *assignments*, what has no UTF-8 form replaced. ValueError: see `send`."""
    for name, value in assignments.items():
        if "\n" in value:
            raise ValueError(f"{name}: a value of several lines: {value!r}")
    message = "\n".join(f"{name}={value}" for name, value in assignments.items())
    encoded = message.encode("utf-8", "replace")
    if len(encoded) > MAX_MESSAGE_BYTES:
        raise ValueError(f"a message of {len(encoded)} bytes: at most {MAX_MESSAGE_BYTES} are read")
    return encoded


def _take(environ: MutableMapping[str, str]) -> Mapping[str, str]:
    found = {name: environ.pop(name, None) for name in _VARIABLES}
    return {name: value for name, value in found.items() if value is not None}


def _check_address(address: str) -> None:
    if not address.startswith(("/", "@")) or len(address) < 2 or "\0" in address:
        raise ValueError(f"NOTIFY_SOCKET={address!r:.120}: neither an absolute path nor @name")
    if len(os.fsencode(address)) > _MAX_ADDRESS_BYTES:
        raise ValueError(f"NOTIFY_SOCKET of more than {_MAX_ADDRESS_BYTES} bytes")


def _watchdog_us(taken: Mapping[str, str]) -> int | None:
    """What `sd_watchdog_enabled(3)` would say; ValueError for what it calls invalid."""
    if "WATCHDOG_USEC" not in taken:
        return None
    interval_us = _natural("WATCHDOG_USEC", taken["WATCHDOG_USEC"])
    if "WATCHDOG_PID" in taken and _natural("WATCHDOG_PID", taken["WATCHDOG_PID"]) != os.getpid():
        return None  # meant for another process, from which we inherited it
    return interval_us


def _natural(name: str, text: str) -> int:
    """A positive number in plain digits; `int` itself takes signs, blanks and underscores."""
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(_FOREVER_US))
    if not digits or not 0 < int(text) < _FOREVER_US:
        raise ValueError(f"{name}={text!r:.60}: not a positive number")
    return int(text)
