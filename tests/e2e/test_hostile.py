"""Rubbish sent to a real daemon over real sockets: a clear line, a counter, no crash."""

from __future__ import annotations

import json
import random
import re
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import frozen

from tests.harness.flaky_server import Peer, Script, flaky_server, frame
from tests.harness.process import (
    RunningDaemon,
    demo_config,
    free_port,
    running_command,
    running_daemon,
)

LIMIT_BYTES = 100_000
FLOOD = 20
PATIENCE_S = 5
"""Of the daemon with its links: only what never comes at all may take so long."""
LEVEL = {"px": "150.25", "sz": "3", "n": 1}
TRADE = {"coin": "SOL", "side": "B", "px": "150.25", "sz": "2", "time": 1_700_000_000_000, "tid": 1}
BOOK = {"coin": "SOL", "time": 1_700_000_000_000, "levels": [[LEVEL], [LEVEL | {"px": "151"}]]}


@frozen
class Rubbish:
    """Messages that are not understood: how many, and what is logged of them."""

    messages: tuple[Any, ...]
    problem: str

    async def __call__(self, peer: Peer) -> None:
        """A good venue, but for these."""
        await peer.upgrade()
        for message in self.messages:
            await peer.send(message)
        await peer.send({"channel": "trades", "data": [TRADE]})
        await peer.serve()


def _book(**changes: Any) -> Any:
    return {"channel": "l2Book", "data": BOOK | changes}


def _trades(**changes: Any) -> Any:
    return {"channel": "trades", "data": [TRADE | changes]}


def _levels(**changes: Any) -> Any:
    return _book(levels=[[LEVEL | changes], [LEVEL]])


RUBBISH = {
    "binary": Rubbish(
        tuple(random.Random(1).randbytes(size) for size in (1, 10, 500)), "not a message"
    ),
    "text": Rubbish(("", "}{", "hello", "null", "[1, 2]", '{"channel": 5}'), "not a message"),
    "deep": Rubbish(("[" * 50_000, '{"channel":' * 9_000), "not a message"),
    "deep-data": Rubbish(
        ('{"channel":"l2Book","data":' + "[" * 30_000 + "]" * 30_000 + "}",), "not a message"
    ),
    "channels": Rubbish(
        ({"channel": "twapStates", "data": {}}, {"channel": "💥", "data": 1}), "unknown channel: '"
    ),
    "coins": Rubbish(
        (_trades(coin="BTC"), _book(coin="..", time=1)), "(trades|l2Book): .*not subscribed"
    ),
    "types": Rubbish(
        (
            {"channel": "trades", "data": {"coin": 5}},
            _trades(px=150.25),
            _trades(tid="one"),
            _book(time="now"),
            _book(levels="none"),
            _book(levels=[[LEVEL]]),
        ),
        "trades|l2Book",
    ),
    "numbers": Rubbish(
        (
            *(_trades(px=text) for text in ("NaN", "Infinity", "-1", "0", "1e9", "9" * 5_000)),
            *(_trades(sz=text) for text in ("-2", "0.0", "0x10", "\u0661", "")),
            *(_levels(sz=text) for text in ("-3", "0", "sNaN", "3,5")),
            _trades(time=10**40),
            _book(time=-1),
            '{"channel":"l2Book","data":{"coin":"SOL","time":1e400,"levels":[[],[]]}}',
        ),
        "trades|l2Book",
    ),
}


@frozen
class Breakage:
    """A connection that cannot be kept, and what the log says of it."""

    script: Script
    reason: str
    event: str = "link backoff"


async def _oversized(peer: Peer) -> None:
    await peer.upgrade()
    await peer.send("x" * (LIMIT_BYTES + 1))
    await peer.serve()


async def _endless(peer: Peer) -> None:
    """One message in pieces that never end."""
    await peer.upgrade()
    await peer.send_raw(frame("x" * 10_000, final=False))
    while True:
        await peer.send_raw(frame("x" * 10_000, opcode=0, final=False))


def _sends(data: bytes) -> Script:
    async def script(peer: Peer) -> None:
        await peer.upgrade()
        await peer.send_raw(data)
        await peer.serve()

    return script


def _answers(data: bytes) -> Script:
    async def script(peer: Peer) -> None:
        await peer.send_raw(data)

    return script


async def _half_open(peer: Peer) -> None:
    """Takes everything and never speaks."""
    await peer.upgrade()
    while True:
        await peer.receive()


async def _no_handshake(peer: Peer) -> None:
    while True:
        await peer.receive()


async def _hangs_up(peer: Peer) -> None:
    await peer.upgrade()


async def _resets(peer: Peer) -> None:
    await peer.upgrade()
    assert isinstance(peer.stream, trio.SocketStream)
    peer.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


async def _floods(peer: Peer) -> None:
    await peer.upgrade()
    for _ in range(FLOOD + 1):
        await peer.send("rubbish")
    await peer.serve()


async def _crossed(peer: Peer) -> None:
    """A good book, then a bid above the ask, which no matching engine leaves."""
    await peer.upgrade()
    await peer.send(_book(coin="ETH"))
    await peer.send(_book(coin="ETH", levels=[[LEVEL | {"px": "152"}], [LEVEL]]))
    await peer.serve()


async def _frozen(peer: Peer) -> None:
    """One book, and pongs for ever."""
    await peer.upgrade()
    await peer.send(_book(coin="kPEPE"))
    await peer.serve()


BREAKAGES = {
    "oversized": Breakage(_oversized, "1009"),
    "endless": Breakage(_endless, "1009"),
    "reserved-bits": Breakage(_sends(b"\xf1\x02{}"), "1002"),
    "unknown-opcode": Breakage(_sends(b"\x83\x02{}"), "1002"),
    "masked": Breakage(_sends(b"\x81\x82abcd??"), "1002"),
    "not-utf-8": Breakage(_sends(frame(b"\xff\xfe{}", opcode=1)), "1007"),
    "long-ping": Breakage(_sends(frame(b"x" * 200, opcode=9)), "1002"),
    "stray-continuation": Breakage(_sends(frame("{}", opcode=0)), "1002"),
    "binary-flood": Breakage(_sends(random.Random(2).randbytes(5_000)), "connection closed"),
    "half-open": Breakage(_half_open, f"no pong within {PATIENCE_S * 1_000} ms"),
    "no-handshake": Breakage(
        _no_handshake, f"no connection to 127.0.0.1:[0-9]+ within {PATIENCE_S} s"
    ),
    "hangs-up": Breakage(_hangs_up, "connection closed"),
    "resets": Breakage(_resets, "connection closed"),
    "error-500": Breakage(_answers(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"), "HTTP 500"),
    "page-200": Breakage(_answers(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), "HTTP 200"),
    "no-http": Breakage(
        _answers(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "no WebSocket handshake: illegal status line"
    ),
    "wrong-key": Breakage(
        _answers(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: bm90IHRoZSBrZXkgYXQgYWxs\r\n\r\n"
        ),
        "no WebSocket handshake: Bad accept token",
    ),
    "forbidden": Breakage(
        _answers(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"), "HTTP 403", "link refused"
    ),
    "flood": Breakage(_floods, "too many bad messages, the last: not a message"),
}


@asynccontextmanager
async def _beside(
    folder: Path, scripts: Mapping[str, Script], *, coins: Mapping[str, str] = {}
) -> AsyncIterator[RunningDaemon]:
    """A daemon that trades BTC, and has an endpoint for each of *scripts* besides.

    It is subscribed to book and trades of SOL, or what *coins* says.
    """
    async with flaky_server({f"/{name}": script for name, script in scripts.items()}) as (_, port):
        patience_ms = PATIENCE_S * 1_000
        extra = f"heartbeat_interval_ms = 500\nheartbeat_timeout_ms = {patience_ms}\n"
        extra += f"connect_timeout_ms = {patience_ms}"
        endpoints = "".join(
            f'[[ws_endpoints]]\nname = "{name}"\nurl = "ws://127.0.0.1:{port}/{name}"\n'
            'streams = ["l2Book:{0}", "trades:{0}"]\n'.format(coins.get(name, "SOL"))
            for name in scripts
        )
        limits = (
            f"[limits]\nmax_message_bytes = {LIMIT_BYTES}\nmax_bad_messages_per_minute = {FLOOD}\n"
            "[staleness]\nbook_ms = 2000\n"
        )
        config = demo_config(free_port(), extra=extra) + endpoints + limits
        async with running_daemon(folder, config) as daemon:
            yield daemon


async def _status_of(daemon: RunningDaemon, endpoint: str) -> dict[str, Any]:
    links = (await daemon.status())["links"]
    (found,) = [link for link in links if link["endpoint"] == endpoint]
    return dict(found)


async def _assert_unharmed(daemon: RunningDaemon) -> None:
    """The links and strategies beside the hostile ones go on; the daemon stops as it should."""
    await daemon.wait_event("order filled", since=len(daemon.log))
    for name in ("market", "private"):
        link = await _status_of(daemon, name)
        assert (link["state"], link["reconnects"], link["bad_messages"]) == ("up", 0, 0)
    status = await daemon.status()
    assert {one["state"] for one in status["strategies"]} == {"running"}
    assert status["bus"]["faults"] == 0
    assert await daemon.stop() == 0


async def test_what_cannot_be_understood_is_named_and_counted(tmp_path: Path) -> None:
    async with _beside(tmp_path, RUBBISH) as daemon:
        await daemon.wait_event("running")
        for name, rubbish in RUBBISH.items():
            count = len(rubbish.messages)
            for line in await daemon.wait_events(count, "bad message", endpoint=name):
                assert re.match(rubbish.problem, line["problem"]), line
        for name, rubbish in RUBBISH.items():
            link = await _status_of(daemon, name)
            assert (name, link["bad_messages"]) == (name, len(rubbish.messages))
            assert (name, link["state"], link["reconnects"]) == (name, "up", 0)
        status = await daemon.status()
        assert status["bad_messages"]["count"] == sum(len(one.messages) for one in RUBBISH.values())
        assert status["bad_messages"]["by_problem"]["unknown channel"] == 2
        await _assert_unharmed(daemon)


async def test_connections_that_break_are_named_and_made_again(tmp_path: Path) -> None:
    scripts = {name: breakage.script for name, breakage in BREAKAGES.items()}
    async with _beside(tmp_path, scripts) as daemon:
        await daemon.wait_event("running")
        for name, breakage in BREAKAGES.items():
            line = await daemon.wait_event(breakage.event, endpoint=name)
            assert re.search(breakage.reason, line["reason"]), line
        refused = await _status_of(daemon, "forbidden")
        assert (refused["state"], refused["attempt"]) == ("refused", 0)
        assert (await _status_of(daemon, "flood"))["bad_messages"] > FLOOD
        for name in BREAKAGES.keys() - {"forbidden"}:
            link = await _status_of(daemon, name)
            assert link["attempt"] > 0, link
            assert re.search(BREAKAGES[name].reason, link["last_error"]), link
        await _assert_unharmed(daemon)


async def test_market_data_that_cannot_be_true_is_stale(tmp_path: Path) -> None:
    scripts = {"crossed": _crossed, "frozen": _frozen}
    coins = {"crossed": "ETH", "frozen": "kPEPE"}
    async with _beside(tmp_path, scripts, coins=coins) as daemon:
        await daemon.wait_event(
            "market status",
            instrument="hyperliquid.ETH",
            state="stale",
            reason="the book is crossed",
        )
        await daemon.wait_event(
            "market status",
            instrument="hyperliquid.kPEPE",
            state="stale",
            reason="no book for 2000 ms",
        )
        status = await daemon.status()
        stale = {one["instrument"] for one in status["market"] if one["stale"]}
        assert stale >= {"hyperliquid.ETH", "hyperliquid.kPEPE"}
        assert status["data"]["crossed_books"] == 1
        for name in scripts:
            link = await _status_of(daemon, name)
            assert (link["state"], link["bad_messages"]) == ("up", 0)
        await _assert_unharmed(daemon)


GARBAGE = {
    "no JSON": (b"status\n", "not a line of JSON"),
    "bytes": (random.Random(3).randbytes(300).replace(b"\n", b"") + b"\n", "not a line of JSON"),
    "deep": (b"[" * 40_000 + b"\n", "not a line of JSON"),
    "list": (b"[1]\n", "expected an object"),
    "number": (b'{"command": 5}\n', "expected an object"),
    "unknown": (b'{"command": "sell everything"}\n', "unknown command 'sell everything'; known:"),
    "endless": (b"x" * 200_000, "a line of more than 65536 bytes"),
}


async def test_garbage_on_the_control_socket_is_answered_with_an_error(tmp_path: Path) -> None:
    async with running_daemon(tmp_path, demo_config(free_port())) as daemon:
        await daemon.wait_event("running")
        for garbage, expected in GARBAGE.values():
            async with await trio.open_unix_socket(tmp_path / "var" / "control.sock") as client:
                await client.send_all(garbage)
                reply = json.loads(await client.receive_some(10_000))
            assert reply["ok"] is False
            assert reply["error"].startswith(expected), reply
        async with await trio.open_unix_socket(tmp_path / "var" / "control.sock") as client:
            await client.send_all(b'{"command"')
        await _assert_unharmed(daemon)


CONFIG = """state_dir = "var"
[exchange]
enabled = true
port = 18999
[[ws_endpoints]]
url = "ws://127.0.0.1:18999/ws"
streams = ["trades:BTC"]
[[strategies]]
name = "maker"
use = "zq_daemon.strategy.market_maker:MarketMaker"
instruments = ["hyperliquid.BTC"]
params = { quantity = 0.1, max_position = 1 }
"""
BAD_CONFIGS = {
    "not TOML": ("port = 18999", "port = ", r"config.toml:4:\d+: not valid TOML: "),
    "misspelt key": (
        "enabled",
        "enabeld",
        r"config.toml:3: exchange.enabeld: unknown key; did you mean 'enabled'\?",
    ),
    "wrong type": (
        "18999\n",
        '"many"\n',
        r"config.toml:4: exchange.port: expected a whole number, got the string 'many'",
    ),
    "out of range": ("18999\n", "99999\n", r"config.toml:4: exchange.port: "),
    "missing key": ('url = "ws://127.0.0.1:18999/ws"\n', "", r"config.toml:5: .*url"),
    "bad URL": ("ws://127", "http://127", r"config.toml:6: ws_endpoints\[0\].url: .*ws://"),
    "unknown stream": ("trades:BTC", "ticker:BTC", r"config.toml:7: ws_endpoints\[0\].streams"),
    "no class": ("MarketMaker", "Market", "no class 'Market'"),
    "strategy parameter": (
        "quantity = 0.1",
        "quantty = 0.1",
        r"config.toml:12: strategies\[0\].params.quantty: unknown key; did you mean 'quantity'\?",
    ),
    "impossible parameter": (
        "quantity = 0.1",
        "quantity = -1",
        r"config.toml:12: strategies\[0\].params.*must be positive",
    ),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
async def test_a_bad_configuration_is_refused_with_its_line(tmp_path: Path, case: str) -> None:
    good, bad, expected = BAD_CONFIGS[case]
    assert good in CONFIG
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.replace(good, bad, 1))
    async with running_command(["run", "--config", str(path)], tmp_path) as daemon:
        assert await daemon.wait_exit() == 78
    told = "\n".join(str(line.get("text") or line.get("error") or "") for line in daemon.log)
    assert re.search(expected, told), told
