"""Ports that tests are given: no two the same, whichever processes ask at the same time."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import process
from tests.harness.process import free_port

ASKED = 40
ASK = f"from tests.harness.process import free_port\nfor _ in range({ASKED}): print(free_port())"


def test_processes_side_by_side_are_given_different_ports() -> None:
    asking = [
        subprocess.Popen(
            [sys.executable, "-c", ASK],
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    given = [port for each in asking for port in each.communicate()[0].split()]
    assert len(set(given)) == len(given) == 2 * ASKED


@pytest.mark.parametrize("left", ["", "none", "9999999", "-1", "32767", "10000"])
def test_whatever_was_left_by_others_the_next_ports_can_be_had(
    left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_TURN", tmp_path / "turn")
    (tmp_path / "turn").write_text(left)
    given = [free_port() for _ in range(3)]
    assert len(set(given)) == 3
    assert all(10_000 <= port < 32_768 for port in given)


def test_a_port_that_is_taken_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setattr(process, "_TURN", tmp_path / "turn")
    (tmp_path / "turn").write_text(str(port - 1))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        assert free_port() != port
