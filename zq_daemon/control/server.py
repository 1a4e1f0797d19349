"""Answers the control socket: one JSON line in, one JSON line out, by a table of handlers.

Owns framing, limits and time-outs; what a command means is its handler's. A request is an object
with `"command"`, the rest of it are arguments; the reply is `{"ok": true, "result": ...}` or
`{"ok": false, "error": "..."}`, with `"usage": true` where the request itself was wrong. Several
requests may follow one another on a connection, each answered before the next is read; a handler
that waits keeps nobody else waiting. Nothing a client sends harms the daemon. Started by `daemon`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from inspect import isawaitable
from pathlib import Path
from typing import Any

import msgspec
import trio

from zq_daemon.control.arguments import BadRequest
from zq_daemon.control.lines import LineReader
from zq_daemon.errors import ControlError, ZqError
from zq_daemon.ports.unix import open_unix_listener
from zq_daemon.runtime.containment import contained

Handler = Callable[[Mapping[str, Any]], Any]
"""Takes the request, returns a JSON-ready result, or an awaitable of one where it has to wait.

A ZqError becomes the error reply.
"""

Listen = Callable[[Path], AbstractAsyncContextManager[trio.abc.Listener[trio.abc.Stream]]]
"""Opens a listener for local clients (`Network.listen_locally`)."""

REQUEST_BYTES = 65_536
IDLE_S = 60.0
"""How long a client may take for a request, or to read its reply."""


async def serve_control(
    path: Path,
    handlers: Mapping[str, Handler],
    limit: int,
    *,
    listen: Listen = open_unix_listener,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Listen at *path* until cancelled, for at most *limit* clients at a time.

    Reports started once it can be connected to; ControlError when the path cannot be used.
    """
    slots = trio.CapacityLimiter(limit)
    async with listen(path) as listener:
        task_status.started()
        await trio.serve_listeners(partial(_serve_client, handlers, slots), [listener])


async def _serve_client(
    handlers: Mapping[str, Handler], slots: trio.CapacityLimiter, stream: trio.abc.Stream
) -> None:
    async with stream:
        await contained("control client", partial(_converse, handlers, slots, stream))


async def _converse(
    handlers: Mapping[str, Handler], slots: trio.CapacityLimiter, stream: trio.abc.Stream
) -> None:
    try:
        slots.acquire_nowait()
    except trio.WouldBlock:
        await _send(stream, _error("too many clients; try again"))
        return
    try:
        await _answer_all(handlers, stream)
    except trio.BrokenResourceError:
        return
    finally:
        slots.release()


async def _answer_all(handlers: Mapping[str, Handler], stream: trio.abc.Stream) -> None:
    lines = LineReader(stream, REQUEST_BYTES)
    while True:
        with trio.move_on_after(IDLE_S) as patience:
            try:
                line = await lines.read()
            except ControlError as error:
                await _send(stream, _error(str(error)))
                return
        if patience.cancelled_caught or line is None:
            return
        await _send(stream, await _answer(handlers, line))


async def _answer(handlers: Mapping[str, Handler], line: bytes) -> bytes:
    """The reply to one request; a handler's defect is logged and told as such."""
    reply = _error("internal error; the daemon's log has the trace")

    async def work() -> None:
        nonlocal reply
        reply = await _handle(handlers, line)

    await contained("control command", work)
    return reply


async def _handle(handlers: Mapping[str, Handler], line: bytes) -> bytes:
    try:
        request = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _error("not a line of JSON")
    command = request.get("command") if isinstance(request, dict) else None
    if not isinstance(command, str):
        return _error('expected an object with a "command", e.g. {"command": "status"}')
    handler = handlers.get(command)
    if handler is None:
        return _error(f"unknown command {command[:64]!r}; known: {', '.join(sorted(handlers))}")
    try:
        result = handler(request)
        return _line({"ok": True, "result": await result if isawaitable(result) else result})
    except BadRequest as error:
        return _line({"ok": False, "error": str(error), "usage": True})
    except ZqError as error:
        return _error(str(error))


def _error(text: str) -> bytes:
    return _line({"ok": False, "error": text})


def _line(reply: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(reply) + b"\n"


async def _send(stream: trio.abc.Stream, reply: bytes) -> None:
    with trio.move_on_after(IDLE_S) as patience:
        await stream.send_all(reply)
    if patience.cancelled_caught:
        raise trio.BrokenResourceError("the client does not read its reply")
