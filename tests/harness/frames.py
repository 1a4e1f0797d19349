"""WebSocket as bytes: a peer that knows nothing of trio-websocket, to see what is on the wire."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence

from attrs import frozen

CLOSE = 8
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
_KEY_SUFFIX = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@frozen
class Frame:
    """One frame, unmasked; see RFC 6455, section 5.2."""

    opcode: int
    masked: bool
    payload: bytes

    @property
    def close_code(self) -> int | None:
        """The code of a close frame; None for any other frame."""
        return int.from_bytes(self.payload[:2], "big") if self.opcode == CLOSE else None


def frames(received: bytes) -> Sequence[Frame]:
    """The whole frames after the HTTP head in one direction of a connection."""
    _, _, rest = received.partition(b"\r\n\r\n")
    return list(_read(rest))


def close_frame(code: int, *, masked: bool) -> bytes:
    """A close frame; a client masks (here by zeros)."""
    payload = code.to_bytes(2, "big")
    return b"\x88\x82\0\0\0\0" + payload if masked else b"\x88\x02" + payload


def accept_upgrade(request: bytes) -> bytes:
    """The answer to an upgrade that *request* holds in full."""
    key = request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
    accepted = base64.b64encode(hashlib.sha1(key + _KEY_SUFFIX).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accepted + b"\r\n\r\n"
    )


def _read(data: bytes) -> Iterator[Frame]:
    while len(data) >= 2:
        masked, length, start = bool(data[1] & 0x80), data[1] & 0x7F, 2
        if length >= 126:
            start = 4 if length == 126 else 10
            length = int.from_bytes(data[2:start], "big")
        mask = data[start : start + 4] if masked else b""
        start += len(mask)
        payload = data[start : start + length]
        if len(payload) < length:
            return
        if masked:
            payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
        yield Frame(data[0] & 0x0F, masked, payload)
        data = data[start + length :]
