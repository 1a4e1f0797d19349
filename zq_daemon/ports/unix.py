"""The Unix socket port: a private listener at a path, and connections to one.

Owns the socket file: its mode, what becomes of one left behind by a dead process, its removal. It
knows nothing of what is spoken. Called by `control`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from zq_daemon.errors import ControlError

MAX_PATH_BYTES = 107
"""sun_path without its terminating zero (unix(7))."""

_BACKLOG = 16


@asynccontextmanager
async def open_unix_listener(path: Path) -> AsyncIterator[trio.SocketListener]:
    """Listen at *path* for processes of our user only (mode 0600); the file goes when this ends.

    A socket that nobody listens at any more is replaced; ControlError when somebody does, when
    something else is there, or when the path cannot be used.
    """
    _check_length(path)
    await _make_way(path)
    with trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM) as sock:
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            await sock.bind(str(path))
            ours = _open_to_us(path, sock)
        except OSError as error:
            raise ControlError(f"cannot listen at {path}: {error.strerror}") from error
        try:
            yield trio.SocketListener(sock)
        finally:
            _remove(path, ours)


async def connect_unix(path: Path) -> trio.SocketStream:
    """A connection to the listener at *path*; ControlError when there is none."""
    _check_length(path)
    try:
        return await trio.open_unix_socket(path)
    except FileNotFoundError:
        raise ControlError(f"no daemon at {path}: no such socket") from None
    except ConnectionRefusedError:
        raise ControlError(f"no daemon at {path}: nobody listens there any more") from None
    except OSError as error:
        raise ControlError(f"cannot connect to {path}: {error.strerror}") from None


def _check_length(path: Path) -> None:
    if len(os.fsencode(path)) > MAX_PATH_BYTES:
        raise ControlError(
            f"socket path {path}: longer than {MAX_PATH_BYTES} bytes; set control_socket"
        )


def _open_to_us(path: Path, sock: trio.socket.SocketType) -> os.stat_result:
    path.chmod(0o600)  # before listen(): until then nobody can connect
    sock.listen(_BACKLOG)
    return path.stat()


async def _make_way(path: Path) -> None:
    """Remove what a dead process left at *path*."""
    if not _is_socket(path):
        return
    if await _is_alive(path):
        raise ControlError(f"another daemon is listening at {path}; stop it first")
    _unlink(path)


def _is_socket(path: Path) -> bool:
    """Whether a socket is at *path*; ControlError when something else is."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise ControlError(f"cannot look at {path}: {error.strerror}") from error
    if not stat.S_ISSOCK(found.st_mode):
        raise ControlError(f"{path} is in the way: it exists and is not a socket")
    return True


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ControlError(f"cannot replace {path}: {error.strerror}") from error


async def _is_alive(path: Path) -> bool:
    with trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM) as sock:
        try:
            await sock.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError as error:
            raise ControlError(f"{path} is in the way: {error.strerror}") from error
        return True


def _remove(path: Path, ours: os.stat_result) -> None:
    """Unlink *path* if it is still the socket we made: another daemon's is left alone."""
    try:
        found = path.lstat()
        if (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino):
            path.unlink()
    except OSError:
        return
