"""Asks a running daemon over its control socket. Called by the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import trio

from zq_daemon.control.arguments import BadRequest
from zq_daemon.control.lines import LineReader
from zq_daemon.errors import ControlError
from zq_daemon.ports.unix import connect_unix

REPLY_BYTES = 16 << 20
TIMEOUT_S = 10.0


async def request(path: Path, command: str, *, timeout_s: float = TIMEOUT_S, **args: Any) -> Any:
    """Send *command* with *args* to the daemon listening at *path*, and return its result.

    Raises Unreachable when no daemon answers there, ControlError when it refuses, BadRequest when
    it always would.
    """
    try:
        with trio.fail_after(timeout_s):
            line = await _exchange(path, msgspec.json.encode({**args, "command": command}))
    except trio.TooSlowError:
        raise Unreachable(f"the daemon at {path} did not answer in {timeout_s:g} s") from None
    try:
        reply = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        reply = None
    if not isinstance(reply, dict) or "ok" not in reply:
        raise ControlError(f"what listens at {path} is no zq-daemon: it answered no reply")
    if reply["ok"] is not True:
        if reply.get("usage") is True:
            raise BadRequest(f"{command}: {reply.get('error')}")
        raise ControlError(f"the daemon refused {command!r}: {reply.get('error')}")
    return reply.get("result")


class Unreachable(ControlError):
    """No daemon answers at the socket."""


async def _exchange(path: Path, message: bytes) -> bytes:
    try:
        stream = await connect_unix(path)
    except ControlError as error:
        raise Unreachable(str(error)) from None
    async with stream:
        try:
            await stream.send_all(message + b"\n")
            line = await LineReader(stream, REPLY_BYTES).read()
        except trio.BrokenResourceError:
            line = None
    if line is None:
        raise Unreachable(f"the daemon at {path} hung up without an answer")
    return line
