"""Secrets: where they are read from, who else may not, and that they stay hidden."""

from __future__ import annotations

import copy
import os
import pickle
from pathlib import Path

import pytest

from zq_daemon.config.secrets import MAX_BYTES, Secret, read_secret
from zq_daemon.errors import CredentialError

TEXT = "0x5ec4e7"


def stored(path: Path, content: bytes = TEXT.encode(), mode: int = 0o600) -> Path:
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_private_file_is_read_and_stripped(tmp_path: Path, mode: int) -> None:
    secret = read_secret("agent", stored(tmp_path / "key", b"\n 0x5ec4e7 \n", mode))
    assert secret is not None
    assert secret.reveal() == TEXT


def test_a_systemd_credential_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored(tmp_path / "agent", mode=0o644)  # its folder is private, systemd sees to that
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    secret = read_secret("agent")
    assert secret is not None
    assert secret.reveal() == TEXT
    assert read_secret("another") is None


def test_without_file_and_systemd_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert read_secret("agent") is None


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o601, 0o700])
def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = stored(tmp_path / "key", mode=mode)
    with pytest.raises(CredentialError, match=rf"mode {mode:04o} is too open; run: chmod 600"):
        read_secret("agent", path)


def test_another_users_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stored(tmp_path / "key")
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(CredentialError, match=f"belongs to user {owner}, not to us"):
        read_secret("agent", path)


@pytest.mark.parametrize(
    ("content", "told"),
    [(b" \n", "the file is empty"), (b"\xff", "not text"), (b"x" * (MAX_BYTES + 1), "not a key")],
)
def test_unusable_content_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    with pytest.raises(CredentialError, match=told):
        read_secret("agent", stored(tmp_path / "key", content))


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CredentialError, match="cannot be opened: No such file"):
        read_secret("agent", tmp_path / "none")
    with pytest.raises(CredentialError, match="not a regular file"):
        read_secret("agent", tmp_path)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(CredentialError, match="not a regular file"):
        read_secret("agent", tmp_path / "pipe")


def test_a_secret_shows_itself_nowhere() -> None:
    secret = Secret(TEXT)
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>40}",
        str([secret]),
    ]
    assert all(TEXT not in text for text in shown)
    for leak in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="never pickled or copied"):
            leak(secret)
    with pytest.raises(TypeError):
        vars(secret)
