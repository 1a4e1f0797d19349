"""Captures through the exchange and a real socket into a strategy: all of it, in order, once."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from tests.harness.process import RunningDaemon, free_port, running_command, running_daemon

STRATEGIES = Path(__file__).parents[1] / "harness" / "strategies"
SYNTHETIC = Path(__file__).parents[1] / "data" / "synthetic.gz"


def read_capture(path: Path) -> list[list[Any]]:
    """What the capture says, read without any code of the daemon's."""
    found, trades = [], set()
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        message = json.loads(line.partition(" ")[2])
        channel, data = message["channel"], message["data"]
        match channel:
            case "trades":
                for one in data:
                    if (one["coin"], one["tid"]) not in trades:
                        trades.add((one["coin"], one["tid"]))
                        side = "buy" if one["side"] == "B" else "sell"
                        values = one["tid"], side, _number(one["px"]), _number(one["sz"])
                        found.append([channel, one["coin"], one["time"], *values])
            case "l2Book":
                levels = [
                    [[_number(each["px"]), _number(each["sz"])] for each in side]
                    for side in data["levels"]
                ]
                found.append([channel, data["coin"], data["time"], levels])
            case "bbo":
                best = [_number(each[key]) for each in data["bbo"] for key in ("px", "sz")]
                found.append([channel, data["coin"], data["time"], *best])
            case "activeAssetCtx":
                found.append([channel, data["coin"], None, _number(data["ctx"]["markPx"])])
    return found


def _number(text: str) -> str:
    return str(Decimal(text))


def _config(port: int, folder: Path, expected: list[list[Any]], extra: str = "") -> str:
    coins = sorted({coin for _, coin, *_ in expected})
    streams = sorted({f"{channel}:{coin}" for channel, coin, *_ in expected})
    return f"""
state_dir = "var"
{extra}
[venues.hyperliquid]
api_url = "http://127.0.0.1:{port}"
[log]
format = "json"
[[ws_endpoints]]
url = "ws://127.0.0.1:{port}/ws"
streams = {streams}
[[strategies]]
name = "recorder"
use = "recorder:Recorder"
path = "{STRATEGIES}"
instruments = {[f"hyperliquid.{coin}" for coin in coins]}
params = {{ file = "{folder / "seen"}", lines = {len(expected)} }}
"""


async def _assert_seen(daemon: RunningDaemon, folder: Path, expected: list[list[Any]]) -> None:
    await daemon.wait_event("recorded", lines=len(expected))
    status = await daemon.status()
    assert await daemon.stop() == 0
    assert _seen(folder) == expected
    assert status["bad_messages"]["count"] == 0
    (link,) = status["links"]
    assert link["reconnects"] == 0
    assert _feed(status)["conflated"] == 0


def _seen(folder: Path) -> list[list[Any]]:
    return [json.loads(line) for line in (folder / "seen").read_text().splitlines()]


def _feed(status: dict[str, Any]) -> dict[str, Any]:
    (feed,) = [queue for queue in status["queues"] if queue["name"] == "feed"]
    return dict(feed)


async def _replay(capture: Path, folder: Path) -> None:
    """From an exchange in a process of its own."""
    port, expected = free_port(), read_capture(capture)
    async with running_command(_exchange(port, capture), folder) as exchange:
        await exchange.wait_event("exchange open")
        async with running_daemon(folder, _config(port, folder, expected)) as daemon:
            await _assert_seen(daemon, folder, expected)
        assert await exchange.stop() == 0


async def test_the_synthetic_capture_arrives_whole_and_in_order(tmp_path: Path) -> None:
    await _replay(SYNTHETIC, tmp_path)


async def test_a_real_capture_arrives_whole_and_in_order(tmp_path: Path, captures: Path) -> None:
    await _replay(captures / "hyperliquid" / "btc_20250126.gz", tmp_path)


async def test_a_long_capture_at_full_speed_loses_nothing(tmp_path: Path) -> None:
    """Longer than every queue on its way."""
    capture = tmp_path / "long.gz"
    with gzip.open(capture, "wt", compresslevel=1) as file:
        for number in range(12_000):
            file.write(f"{10**18 + number} {json.dumps(_message(number))}\n")
    await _replay(capture, tmp_path)


async def test_the_exchange_inside_the_daemon_replays_too(tmp_path: Path) -> None:
    port, expected = free_port(), read_capture(SYNTHETIC)
    exchange = f'[exchange]\nenabled = true\nport = {port}\nreplay = "{SYNTHETIC}"\nspeed = 0'
    async with running_daemon(tmp_path, _config(port, tmp_path, expected, exchange)) as daemon:
        await _assert_seen(daemon, tmp_path, expected)


async def test_with_a_tiny_queue_trades_block_and_books_stay_current(tmp_path: Path) -> None:
    """Each message holds more trades than the queue, which they have to wait for."""
    capture = tmp_path / "batches.gz"
    with gzip.open(capture, "wt") as file:
        for number in range(200):
            batch = [_message(number * 20 + each)["data"][0] for each in range(1, 10)]
            for message in ({"channel": "trades", "data": batch}, _message(number * 20)):
                file.write(f"{10**18 + number} {json.dumps(message)}\n")
    expected = read_capture(capture)
    last_trade = expected[-2][3]
    port = free_port()
    config = _config(port, tmp_path, expected, "[limits]\nfeed_queue = 4")
    config = config.replace(f"lines = {len(expected)}", f"trade = {last_trade}")
    async with running_command(_exchange(port, capture), tmp_path) as exchange:
        await exchange.wait_event("exchange open")
        async with running_daemon(tmp_path, config) as daemon:
            await daemon.wait_event("recorded", trade=last_trade)
            feed = _feed(await daemon.status())
            assert await daemon.stop() == 0
    seen = _seen(tmp_path)
    books = [each for each in seen if each[0] == "l2Book"]
    all_books = [each for each in expected if each[0] == "l2Book"]
    assert _trades(seen) == _trades(expected)
    assert books[-1] == all_books[-1]
    assert books == [each for each in all_books if each in books]
    assert len(books) == len(all_books) - feed["conflated"]
    assert (feed["capacity"], feed["high_water"]) == (4, 4)
    assert feed["blocked_s"] > 0


def _trades(lines: list[list[Any]]) -> list[list[Any]]:
    return [each for each in lines if each[0] == "trades"]


def _exchange(port: int, capture: Path) -> list[str]:
    return ["exchange", "--port", str(port), "--replay", str(capture), "--speed", "0"]


def _message(number: int) -> dict[str, Any]:
    """A book at every tenth, else a trade; each is different."""
    time_ms = 1_700_000_000_000 + number
    price = f"{100_000 + number % 1_000}.0"
    if number % 10:
        trade = {"coin": "BTC", "side": "AB"[number % 2], "px": price, "sz": "0.001"}
        return {"channel": "trades", "data": [trade | {"time": time_ms, "tid": number}]}
    bid, ask = ({"px": px, "sz": f"{number + 1}", "n": 1} for px in (price, "200000.0"))
    data = {"coin": "BTC", "time": time_ms, "levels": [[bid], [ask]]}
    return {"channel": "l2Book", "data": data}
