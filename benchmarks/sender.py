"""A venue's market data side as a process of its own: sockets only, as cheap as Python allows.

It answers what clients ask of Hyperliquid's `/info`, takes one WebSocket, and streams to it when a
line comes in on standard input: `<messages> <messages a second, 0: flat out> <books in ten>`.
Each trade's id is the machine's monotonic time at which it was sent, in nanoseconds. The port is
printed first; after each stream a line says how many messages a second were really sent.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from benchmarks import values

_ACCEPT_SALT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
_PERPETUALS = {
    "universe": [{"name": values.COIN, "szDecimals": 5, "maxLeverage": 50, "marginTableId": 50}],
    "marginTables": [],
    "collateralToken": 0,
}
_DOLLAR = {"name": "USDC", "szDecimals": 8, "weiDecimals": 8, "index": 0, "isCanonical": True}
_INFO = {
    "meta": _PERPETUALS,
    "allPerpMetas": [_PERPETUALS],
    "spotMeta": {"universe": [], "tokens": [_DOLLAR | {"tokenId": "0x6d1e"}]},
    "outcomeMeta": {"outcomes": [], "questions": []},
    "perpDexs": [None],
}
_CLOSE = 0x88  # final frame, opcode 8
_BURST = 64
"""Messages a write when flat out: what a busy venue's kernel would coalesce anyway."""


def main() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    feed = _accept_feed(listener)
    threading.Thread(target=_discard, args=(feed,), daemon=True).start()
    for line in sys.stdin:
        count, rate, books = map(int, line.split())
        began = time.monotonic()
        stream(feed.sendall, count, rate, books)
        print(f"{count / (time.monotonic() - began):.0f}", flush=True)


def stream(send: Callable[[bytes], object], count: int, rate: int, books: int) -> None:
    """Send *count* messages, *books* of every ten of them books, and a trade last."""
    if rate:
        _paced(send, count, rate, books)
    else:
        _flat_out(send, count, books)


def frame(text: str) -> bytes:
    """*text* as one unmasked text frame (RFC 6455, section 5.2)."""
    payload = text.encode()
    if len(payload) < 126:
        return bytes((0x81, len(payload))) + payload
    return b"\x81\x7e" + len(payload).to_bytes(2, "big") + payload


def _paced(send: Callable[[bytes], object], count: int, rate: int, books: int) -> None:
    frames = [frame(values.book_message(number)) for number in range(10)]
    period_ns, due_ns = 1_000_000_000 // rate, time.monotonic_ns()
    for number in range(count):
        due_ns += period_ns
        early_ns = due_ns - time.monotonic_ns()
        if early_ns > 0:
            time.sleep(early_ns / 1e9)
        if _is_book(number, count, books):
            send(frames[number % 10])
        else:
            send(frame(values.trade_message(time.monotonic_ns())))


def _flat_out(send: Callable[[bytes], object], count: int, books: int) -> None:
    """All frames are made before the first is sent: making them would be slower than reading."""
    base = time.monotonic_ns()
    frames = [
        frame(
            values.book_message(number)
            if _is_book(number, count, books)
            else values.trade_message(base + number)
        )
        for number in range(count)
    ]
    for start in range(0, count, _BURST):
        send(b"".join(frames[start : start + _BURST]))


def _is_book(number: int, count: int, books: int) -> bool:
    return number % 10 < books and number != count - 1


def _accept_feed(listener: socket.socket) -> socket.socket:
    """Answer HTTP until somebody asks for a WebSocket; that connection."""
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head, body = _read_request(connection)
        key = re.search(rb"sec-websocket-key: *(\S+)", head, re.IGNORECASE)
        if key is not None:
            connection.sendall(_switching(key[1]))
            return connection
        answer = json.dumps(_INFO[json.loads(body)["type"]]).encode()
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(answer), answer)
        )
        connection.close()


def _read_request(connection: socket.socket) -> tuple[bytes, bytes]:
    """Head and body."""
    with connection.makefile("rb") as reader:
        head = b"".join(iter(reader.readline, b"\r\n"))
        length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
        return head, reader.read(int(length[1]) if length else 0)


def _switching(key: bytes) -> bytes:
    accept = base64.b64encode(hashlib.sha1(key + _ACCEPT_SALT, usedforsecurity=False).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept
    )


def _discard(connection: socket.socket) -> None:
    """Subscriptions need no answer here, but unread they would stop the client; a close does."""
    with suppress(OSError):
        while data := connection.recv(65_536):
            if data[0] == _CLOSE:
                connection.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    main()
