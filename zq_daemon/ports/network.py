"""The network port: byte streams to named hosts, and listeners; everything above is protocol code.

`SystemNetwork` is TCP and TLS; a simulation hands in its own with streams in memory.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import trio

from zq_daemon.errors import LinkError
from zq_daemon.ports.unix import open_unix_listener


class Network(Protocol):
    """Opens byte streams."""

    async def connect(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        """A connected stream; raises LinkError when it cannot be made. Callers bound the time."""

    async def listen(self, host: str, port: int) -> Sequence[trio.abc.Listener[trio.abc.Stream]]:
        """Listeners on *host*:*port* (0: any free port); raises LinkError when it is taken."""

    def listen_locally(
        self, path: Path
    ) -> AbstractAsyncContextManager[trio.abc.Listener[trio.abc.Stream]]:
        """A listener for processes of our own user at *path*; raises ControlError."""


class SystemNetwork:
    """TCP, with TLS by the system's certificate store."""

    def __init__(self) -> None:
        self._tls: ssl.SSLContext | None = None

    async def connect(self, host: str, port: int, *, tls: bool) -> trio.abc.Stream:
        """Connect by TCP (happy eyeballs), and do the TLS handshake when asked."""
        try:
            stream: trio.abc.Stream = await trio.open_tcp_stream(host, port)
        except (OSError, UnicodeError) as error:  # a name no resolver takes is a UnicodeError
            raise LinkError(f"cannot connect to {host}:{port}: {_reason(error)}") from error
        if not tls:
            return stream
        secured = trio.SSLStream(stream, self._context(), server_hostname=host)
        try:
            await secured.do_handshake()
        except (trio.BrokenResourceError, ssl.SSLError) as error:
            await trio.aclose_forcefully(stream)
            cause = error.__cause__ or error
            raise LinkError(f"no TLS with {host}:{port}: {cause}") from error
        return secured

    async def listen(self, host: str, port: int) -> Sequence[trio.abc.Listener[trio.abc.Stream]]:
        """TCP listeners."""
        try:
            return await trio.open_tcp_listeners(port, host=host)
        except (OSError, UnicodeError) as error:
            raise LinkError(f"cannot listen on {host}:{port}: {error}") from error

    def listen_locally(
        self, path: Path
    ) -> AbstractAsyncContextManager[trio.abc.Listener[trio.abc.Stream]]:
        """A Unix socket."""
        return open_unix_listener(path)

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls


def _reason(error: Exception) -> str:
    """Why no address of a host could be connected to: Trio says so only in what it chains."""
    group = error.__cause__
    tried = group.exceptions if isinstance(group, ExceptionGroup) else (error,)
    return ", ".join(dict.fromkeys(_said(one) for one in tried))


def _said(error: Exception) -> str:
    """Without the address that Trio repeats in it."""
    if isinstance(error, ConnectionError) and error.errno:
        return os.strerror(error.errno)
    return str(error)
