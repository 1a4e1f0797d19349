"""`zq-daemon reload`: what it prints and how it ends, for every answer a daemon can give."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from zq_daemon.cli.main import run_command
from zq_daemon.control.server import Handler, serve_control
from zq_daemon.errors import ControlError
from zq_daemon.exit_codes import ExitCode


@contextmanager
def answering(path: Path, handler: Handler) -> Iterator[None]:
    """A control socket in a thread: the command runs a Trio of its own."""
    ready = threading.Event()
    ended: list[Callable[[], None]] = []

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve_control, path, {"reload": handler}, 4))
            token = trio.lowlevel.current_trio_token()
            ended.append(partial(token.run_sync_soon, nursery.cancel_scope.cancel))
            ready.set()

    thread = threading.Thread(target=partial(trio.run, serve))
    thread.start()
    assert ready.wait(10)
    try:
        yield
    finally:
        ended[0]()
        thread.join()


def reload(path: Path, answer: Any) -> int:
    with answering(path, lambda _: answer):
        return run_command(["reload", "--socket", str(path)])


def test_what_was_taken_over_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answer = {"applied": ["risk.max_open_orders", "log.level"], "needs_restart": ["state_dir"]}
    assert reload(tmp_path / "s", answer) == ExitCode.OK
    assert capsys.readouterr().out.splitlines() == [
        "applied: risk.max_open_orders",
        "applied: log.level",
        "needs a restart: state_dir",
    ]


def test_nothing_to_take_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert reload(tmp_path / "s", {"applied": [], "needs_restart": []}) == ExitCode.OK
    assert capsys.readouterr().out == "reloaded: nothing differs\n"


def test_a_wrong_configuration_is_told_line_by_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    problems = "c.toml:3: risk.max: unknown key\nc.toml:9: strategies[0].params.x: \x1b[31mno"
    assert reload(tmp_path / "s", {"refused": problems}) == ExitCode.CONFIG
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "c.toml:3: risk.max: unknown key",
        "c.toml:9: strategies[0].params.x: \\x1b[31mno",
        "nothing changed: the daemon goes on as it was",
    ]


def test_a_daemon_that_cannot_reload_now_is_unavailable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def starting(_: Any) -> Any:
        raise ControlError("the daemon is still starting: try again")

    with answering(tmp_path / "s", starting):
        code = run_command(["reload", "--socket", str(tmp_path / "s")])
    assert code == ExitCode.UNAVAILABLE
    assert "refused 'reload': the daemon is still starting" in capsys.readouterr().err


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "done",
        [],
        {},
        {"refused": ""},
        {"applied": ["a"]},
        {"applied": "a", "needs_restart": []},
        {"applied": [1], "needs_restart": []},
    ],
)
def test_what_is_no_answer_is_no_success(
    answer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reload(tmp_path / "s", answer) == ExitCode.UNAVAILABLE
    assert "did not say what it reloaded" in capsys.readouterr().err


def test_no_daemon_is_unavailable(tmp_path: Path) -> None:
    assert run_command(["reload", "--socket", str(tmp_path / "none")]) == ExitCode.UNAVAILABLE


def test_a_file_too_broken_to_find_the_daemon_by_is_a_wrong_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.toml"
    path.write_text("bogus = 1\n")
    assert run_command(["reload", "--config", str(path)]) == ExitCode.CONFIG
    assert f"{path}:1: bogus: unknown key" in capsys.readouterr().err
