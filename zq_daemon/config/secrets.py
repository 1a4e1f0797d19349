"""Reads a secret from where secrets may live: a systemd credential or a private file.

Owns the checks of who could read it and the `Secret` that keeps it out of reprs, logs and pickles.
It never looks at what the secret says, and no message contains any of it. Called when a venue is
opened.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NoReturn, final

from zq_daemon.errors import CredentialError

MAX_BYTES = 65_536


@final
class Secret:
    """A string that shows itself only when asked to: `secret.reveal()`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The secret itself: use it at once, store it nowhere."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(hidden)"

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret is never pickled or copied")


def read_secret(credential: str, key_file: Path | None = None) -> Secret | None:
    """The secret in *key_file* when that is given, else in systemd's credential, stripped.

    None when there is neither: no file named, no credential of that name passed to this process.
    Raises CredentialError when it is there (or was named) and cannot be used safely.
    """
    if key_file is not None:
        return _read(key_file, private=True)
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return None
    path = Path(folder) / credential
    return _read(path, private=False) if path.exists() else None


def _read(path: Path, *, private: bool) -> Secret:
    """Read one file; *private* asks that nobody but us could have (systemd sees to credentials)."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise CredentialError(f"secret {path}: cannot be opened: {error.strerror}") from None
    try:
        _check(path, os.fstat(handle), private)
        raw = os.read(handle, MAX_BYTES + 1)
    finally:
        os.close(handle)
    if len(raw) > MAX_BYTES:
        raise CredentialError(f"secret {path}: larger than {MAX_BYTES} bytes: not a key")
    try:
        text = raw.decode().strip()
    except UnicodeDecodeError:
        raise CredentialError(f"secret {path}: not text") from None
    if not text:
        raise CredentialError(f"secret {path}: the file is empty")
    return Secret(text)


def _check(path: Path, found: os.stat_result, private: bool) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise CredentialError(f"secret {path}: not a regular file")
    if not private:
        return
    if found.st_uid != os.geteuid():
        raise CredentialError(
            f"secret {path}: belongs to user {found.st_uid}, not to us ({os.geteuid()}); chown it"
        )
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o177:
        raise CredentialError(f"secret {path}: mode {mode:04o} is too open; run: chmod 600 {path}")
