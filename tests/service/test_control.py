"""The control socket over real Unix sockets: answers, limits, hostile clients, stale files."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from zq_daemon.control import server
from zq_daemon.control.arguments import BadRequest
from zq_daemon.control.client import Unreachable, request
from zq_daemon.control.server import REQUEST_BYTES, Handler, serve_control
from zq_daemon.errors import ConfigError, ControlError
from zq_daemon.ports.unix import open_unix_listener

LIMIT = 3


def broken(_: Mapping[str, Any]) -> None:
    raise RuntimeError("a defect")


def refusing(_: Mapping[str, Any]) -> None:
    raise ConfigError("not like this")


def misunderstanding(_: Mapping[str, Any]) -> None:
    raise BadRequest("which one?")


async def refusing_later(_: Mapping[str, Any]) -> None:
    await trio.lowlevel.checkpoint()
    raise ConfigError("not like this either")


async def broken_later(_: Mapping[str, Any]) -> None:
    await trio.lowlevel.checkpoint()
    raise RuntimeError("a defect")


HANDLERS: Mapping[str, Handler] = {
    "echo": lambda message: dict(message),
    "status": lambda _: {"state": "running"},
    "broken": broken,
    "refuse": refusing,
    "refuse later": refusing_later,
    "broken later": broken_later,
    "misunderstand": misunderstanding,
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sub" / "control.sock"


@asynccontextmanager
async def serving(path: Path, **more: Handler) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(serve_control, path, {**HANDLERS, **more}, LIMIT))
        yield
        nursery.cancel_scope.cancel()


async def said(path: Path, *chunks: bytes, end: bool = True) -> list[Any]:
    """Everything the server says to raw bytes, until it ends the conversation."""
    stream = await trio.open_unix_socket(path)
    async with stream:
        for chunk in chunks:
            await stream.send_all(chunk)
        if end:
            await stream.send_eof()
        received = b"".join([chunk async for chunk in stream])
    return [msgspec.json.decode(line) for line in received.splitlines()]


async def test_a_command_is_answered(path: Path) -> None:
    async with serving(path):
        assert await request(path, "status") == {"state": "running"}
        assert await request(path, "echo", text="x", n=1) == {
            "command": "echo",
            "text": "x",
            "n": 1,
        }


async def test_requests_follow_one_another_however_they_are_cut(path: Path) -> None:
    async with serving(path):
        replies = await said(path, b'{"command":"sta', b'tus"}\n{"command"', b':"status"}\n')
    assert replies == [{"ok": True, "result": {"state": "running"}}] * 2


async def test_what_a_handler_refuses_is_an_error_reply(path: Path) -> None:
    async with serving(path):
        with pytest.raises(ControlError, match="refused 'refuse': not like this"):
            await request(path, "refuse")


async def test_a_defect_of_a_handler_stays_inside(path: Path) -> None:
    async with serving(path):
        with pytest.raises(ControlError, match="internal error"):
            await request(path, "broken")
        assert await request(path, "status")


async def test_a_request_that_is_wrong_is_told_apart(path: Path) -> None:
    async with serving(path):
        with pytest.raises(BadRequest, match=r"^misunderstand: which one\?$"):
            await request(path, "misunderstand")
        with pytest.raises(ControlError) as caught:
            await request(path, "refuse")
    assert not isinstance(caught.value, BadRequest)


async def test_a_handler_that_waits_keeps_nobody_else_waiting(path: Path) -> None:
    began, go, answers = trio.Event(), trio.Event(), []

    async def wait(_: Mapping[str, Any]) -> str:
        began.set()
        await go.wait()
        return "gone"

    async def ask() -> None:
        answers.append(await request(path, "wait"))

    async with serving(path, wait=wait), trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await began.wait()
        assert await request(path, "status")
        assert not answers
        go.set()
    assert answers == ["gone"]


async def test_requests_behind_one_that_waits_are_answered_in_order(path: Path) -> None:
    async def wait(_: Mapping[str, Any]) -> str:
        await trio.testing.wait_all_tasks_blocked()
        return "first"

    async with serving(path, wait=wait):
        replies = await said(path, b'{"command":"wait"}\n{"command":"status"}\n')
    assert [reply["result"] for reply in replies] == ["first", {"state": "running"}]


async def test_a_client_that_leaves_while_it_is_waited_for_does_no_harm(path: Path) -> None:
    go = trio.Event()

    async def wait(_: Mapping[str, Any]) -> str:
        await go.wait()
        return "x" * 1_000_000

    async with serving(path, wait=wait):
        stream = await trio.open_unix_socket(path)
        await stream.send_all(b'{"command":"wait"}\n')
        await trio.testing.wait_all_tasks_blocked()
        await trio.aclose_forcefully(stream)
        go.set()
        await trio.testing.wait_all_tasks_blocked()
        assert await request(path, "status")


async def test_the_end_of_the_server_ends_what_is_waited_for(path: Path) -> None:
    async def ask() -> None:
        with pytest.raises(Unreachable, match="hung up without an answer"):
            await request(path, "wait")

    began = trio.Event()

    async def wait(_: Mapping[str, Any]) -> None:
        began.set()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery, serving(path, wait=wait):
        nursery.start_soon(ask)
        await began.wait()


async def test_handlers_that_wait_may_fail_as_well(path: Path) -> None:
    async with serving(path):
        with pytest.raises(ControlError, match="refused 'refuse later': not like this either"):
            await request(path, "refuse later")
        with pytest.raises(ControlError, match="internal error"):
            await request(path, "broken later")
        assert await request(path, "status")


async def test_an_unknown_command_lists_the_known(path: Path) -> None:
    async with serving(path):
        with pytest.raises(ControlError, match="unknown command 'x'; known: broken, broken later"):
            await request(path, "x")


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"", "not a line of JSON"),
        (b"\xff\xfe", "not a line of JSON"),
        (b"{", "not a line of JSON"),
        (b"[" * 50_000, "not a line of JSON"),
        (b"[]", "expected an object"),
        (b"{}", "expected an object"),
        (b'{"command": 5}', "expected an object"),
        (b'{"command": "' + b"x" * 300 + b'"}', "unknown command 'xxx"),
    ],
)
async def test_hostile_lines_are_answered_with_an_error(
    path: Path, line: bytes, error: str
) -> None:
    async with serving(path):
        (reply, after) = await said(path, line + b"\n", b'{"command":"status"}\n')
    assert reply["ok"] is False
    assert reply["error"].startswith(error)
    assert len(reply["error"]) < 200
    assert after["ok"] is True


@pytest.mark.parametrize("ended", [b"", b"\n"])
async def test_a_request_that_is_too_long_ends_the_conversation(path: Path, ended: bytes) -> None:
    async with serving(path):
        stream = await trio.open_unix_socket(path)
        async with stream, trio.open_nursery() as nursery:

            async def flood() -> None:
                with pytest.raises(trio.BrokenResourceError):
                    while True:
                        await stream.send_all(b"x" * REQUEST_BYTES + b"y" + ended)

            nursery.start_soon(flood)
            received = b""
            with pytest.raises(trio.BrokenResourceError):
                while chunk := await stream.receive_some():
                    received += chunk
                raise trio.BrokenResourceError
        assert (
            msgspec.json.decode(received)["error"] == f"a line of more than {REQUEST_BYTES} bytes"
        )
        assert await request(path, "status")


async def test_clients_that_leave_early_do_no_harm(path: Path) -> None:
    async with serving(path):
        assert await said(path) == []
        assert await said(path, b'{"command":"status"}') == []
        stream = await trio.open_unix_socket(path)
        await stream.send_all(b'{"command":"status"}\n' * 2_000)
        await trio.aclose_forcefully(stream)
        assert await request(path, "status")


async def test_one_client_too_many_is_told(path: Path) -> None:
    async with serving(path), trio.open_nursery():
        streams = [await trio.open_unix_socket(path) for _ in range(LIMIT)]
        for stream in streams:  # answered: the server has them all
            await stream.send_all(b'{"command":"status"}\n')
            await stream.receive_some()
        with pytest.raises(ControlError, match="too many clients"):
            await request(path, "status")
        await streams[0].send_eof()
        assert await streams[0].receive_some() == b""
        assert await request(path, "status")
        for stream in streams:
            await stream.aclose()


async def test_a_silent_client_is_sent_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "IDLE_S", 0.01)
    async with serving(path):
        assert await said(path, b'{"comm', end=False) == []


async def test_a_client_that_reads_nothing_is_sent_away(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "IDLE_S", 0.05)
    async with serving(path):
        stream = await trio.open_unix_socket(path)
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await stream.send_all(b'{"command":"status"}\n' * 1_000)
        await trio.aclose_forcefully(stream)
        monkeypatch.setattr(server, "IDLE_S", 10.0)
        assert await request(path, "status")


async def test_the_socket_is_ours_alone_and_removed(path: Path) -> None:
    async with serving(path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert not path.exists()


def left_behind(path: Path) -> None:
    """A socket file whose process is dead."""
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


async def test_a_dead_daemons_socket_is_replaced(path: Path) -> None:
    left_behind(path)
    async with serving(path):
        assert await request(path, "status")


async def test_a_living_daemons_socket_is_refused(path: Path) -> None:
    async with serving(path):
        with pytest.raises(ControlError, match="another daemon is listening at"):
            await serve_control(path, HANDLERS, LIMIT)
        assert await request(path, "status")


async def test_another_daemons_new_socket_is_not_removed(path: Path) -> None:
    async with open_unix_listener(path):
        path.unlink()
        path.touch()
    assert path.exists()


async def test_something_else_in_the_way_is_named(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("mine")
    with pytest.raises(ControlError, match="is in the way: it exists and is not a socket"):
        await serve_control(path, HANDLERS, LIMIT)
    assert path.read_text() == "mine"


async def test_paths_that_cannot_be_used_are_named(path: Path) -> None:
    path.parent.write_text("a file")
    with pytest.raises(ControlError, match="cannot look at"):
        await serve_control(path, HANDLERS, LIMIT)
    with pytest.raises(ControlError, match="longer than 107 bytes; set control_socket"):
        await serve_control(path / ("x" * 100), HANDLERS, LIMIT)
    with pytest.raises(ControlError, match="cannot listen at /proc/none/x: No such file"):
        await serve_control(Path("/proc/none/x"), HANDLERS, LIMIT)


async def test_no_daemon_is_unreachable(path: Path) -> None:
    with pytest.raises(Unreachable, match=r"no daemon at .*: no such socket"):
        await request(path, "status")
    left_behind(path)
    with pytest.raises(Unreachable, match=r"no daemon at .*: nobody listens there any more"):
        await request(path, "status")
    with pytest.raises(Unreachable, match=r"cannot connect to .*: Not a directory"):
        await request(path / "x", "status")


async def answering(path: Path, reply: bytes | None) -> None:
    """A server that answers every request with *reply*, or never."""

    async def handler(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            if reply is None:
                await trio.sleep_forever()
            await stream.send_all(reply or b"")

    async with open_unix_listener(path) as listener, trio.open_nursery() as nursery:
        await nursery.start(partial(trio.serve_listeners, handler, [listener]))
        try:
            await request(path, "status", timeout_s=0.05 if reply is None else 10)
        finally:
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("reply", "error", "told"),
    [
        (b"hello\n", ControlError, "is no zq-daemon"),
        (b"[]\n", ControlError, "is no zq-daemon"),
        (b"", Unreachable, "hung up without an answer"),
        (None, Unreachable, "did not answer in 0.05 s"),
    ],
)
async def test_a_server_that_is_none_is_told(
    path: Path, reply: bytes | None, error: type[Exception], told: str
) -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(error, match=told)):
        await answering(path, reply)


async def test_a_socket_of_another_user_cannot_be_used(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_behind(path)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "unlink", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(ControlError, match=r"cannot replace .*: Permission denied"):
        await serve_control(path, HANDLERS, LIMIT)
