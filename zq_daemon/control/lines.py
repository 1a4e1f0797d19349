"""Bounded lines over a byte stream: the framing of the control socket."""

from __future__ import annotations

import trio

from zq_daemon.errors import ControlError

_CHUNK = 16_384


class LineReader:
    r"""Yields the bytes before each newline; ControlError for a line over *limit* bytes."""

    def __init__(self, stream: trio.abc.ReceiveStream, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._buffer = bytearray()

    async def read(self) -> bytes | None:
        """The next line without its newline; None when the far side ended instead."""
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > self._limit:
                raise ControlError(f"a line of more than {self._limit} bytes")
            chunk = await self._stream.receive_some(_CHUNK)
            if not chunk:
                return None
            self._buffer += chunk
        if end > self._limit:
            raise ControlError(f"a line of more than {self._limit} bytes")
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line
