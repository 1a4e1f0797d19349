"""From a message to typed events, for every channel that the daemon understands.

The messages are as the venue writes them. Two of each take turns: what only repeats the one before
(a candle, the middle prices) would be told apart and thrown away.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle

from benchmarks import values
from benchmarks.measure import Case, Scale, nanoseconds
from benchmarks.report import Row, compared, duration
from zq_daemon.venue.hyperliquid.session import HyperliquidSession

PAIR = "@107"
_USER = f"0x{'a' * 40}"
_MS = values.TS_NS // 1_000_000
_COINS = 200
"""How many coins `allMids` tells of; half of their prices change from one message to the next."""
STREAMS = (
    *(f"{kind}:{values.COIN}" for kind in ("trades", "l2Book", "bbo", "activeAssetCtx")),
    f"activeAssetCtx:{PAIR}",
    f"candle:{values.COIN}:1m",
    "allMids",
    *("orderUpdates", "userFills", "userEvents", "userFundings"),
)


def run(scale: Scale) -> Iterator[Row]:
    """A row for each channel."""
    receive = session().receive
    for name, pair in messages().items():
        taken = nanoseconds(
            {
                "own": Case("receive(next(pair), 0)", {"receive": receive, "pair": cycle(pair)}),
                "json": Case("loads(next(pair))", {"loads": json.loads, "pair": cycle(pair)}),
            },
            scale,
        )
        yield Row(
            name=f"decode: {name}, {len(pair[0]):,} bytes, to typed events",
            figure=duration(taken["own"]),
            against=compared("json.loads, untyped", taken["json"], taken["own"]),
        )


def session() -> HyperliquidSession:
    """Of a connection that has every stream."""
    return HyperliquidSession(STREAMS, account_id=values.ACCOUNT, address=_USER)


def messages() -> Mapping[str, Sequence[str]]:
    """Two messages of each channel, by what they are."""
    return {
        "trades, one": [values.trade_message(number) for number in (1, 2)],
        "l2Book, 20 x 20": [values.book_message(number) for number in (1, 2)],
        "bbo": [_bbo(size) for size in (1, 2)],
        "activeAssetCtx": [_context(price) for price in (105_055, 105_056)],
        "activeSpotAssetCtx": [_spot_context(price) for price in (25, 26)],
        "candle": [_candle(close) for close in (105_055, 105_056)],
        f"allMids, {_COINS} coins, half of them changed": [_mids(shift) for shift in (0, 1)],
        "orderUpdates, one": [_update(oid) for oid in (77_001, 77_002)],
        "userFills, one": [
            _message("userFills", {"isSnapshot": False, "user": _USER, "fills": [_fill(tid)]})
            for tid in (1, 2)
        ],
        "user, a fill": [_message("user", {"fills": [_fill(tid)]}) for tid in (1, 2)],
        "userFundings, one": [
            _message("userFundings", {"user": _USER, "fundings": [_funding(usdc)]})
            for usdc in ("-0.002", "0.003")
        ],
        "post, an order's answer": [_answer(number) for number in (1, 2)],
    }


def _message(channel: str, data: object) -> str:
    return json.dumps({"channel": channel, "data": data}, separators=(",", ":"))


def _bbo(size: int) -> str:
    sides = [{"px": f"{price}.0", "sz": f"{size}.03", "n": 3} for price in (105_055, 105_056)]
    return _message("bbo", {"coin": values.COIN, "time": _MS, "bbo": sides})


def _context(price: int) -> str:
    context = {
        "funding": "0.0000125",
        "openInterest": "23012.40318",
        "prevDayPx": "104101.0",
        "dayNtlVlm": "2390118273.6",
        "premium": "-0.0004",
        "oraclePx": f"{price + 4}.0",
        "markPx": f"{price}.0",
        "midPx": f"{price}.5",
        "impactPxs": [f"{price}.0", f"{price + 1}.0"],
        "dayBaseVlm": "22818.9",
    }
    return _message("activeAssetCtx", {"coin": values.COIN, "ctx": context})


def _spot_context(price: int) -> str:
    context = {
        "prevDayPx": "24.811",
        "dayNtlVlm": "90118273.6",
        "markPx": f"{price}.113",
        "midPx": f"{price}.1135",
        "circulatingSupply": "333928180.1",
        "coin": PAIR,
        "totalSupply": "999990391.2",
        "dayBaseVlm": "3588112.7",
    }
    return _message("activeSpotAssetCtx", {"coin": PAIR, "ctx": context})


def _candle(close: int) -> str:
    candle = {
        "t": _MS - _MS % 60_000,
        "T": _MS - _MS % 60_000 + 59_999,
        "s": values.COIN,
        "i": "1m",
        "o": "105001.0",
        "c": f"{close}.0",
        "h": "105099.0",
        "l": "104990.0",
        "v": "12.03318",
        "n": 311,
    }
    return _message("candle", candle)


def _mids(shift: int) -> str:
    prices = {
        f"COIN{number}": f"{100 + number + shift * (number % 2)}.5" for number in range(_COINS)
    }
    return _message("allMids", {"mids": prices})


def _update(oid: int) -> str:
    order = {
        "coin": values.COIN,
        "side": "B",
        "limitPx": "105045.0",
        "sz": "0.001",
        "oid": oid,
        "timestamp": _MS,
        "origSz": "0.001",
        "cloid": f"0x{oid:032x}",
    }
    return _message("orderUpdates", [{"order": order, "status": "open", "statusTimestamp": _MS}])


def _fill(tid: int) -> dict[str, object]:
    return {
        "coin": values.COIN,
        "px": "105045.0",
        "sz": "0.001",
        "side": "B",
        "time": _MS,
        "startPosition": "0.0",
        "dir": "Open Long",
        "closedPnl": "0.0",
        "hash": f"0x{'4d' * 32}",
        "oid": 77_001,
        "crossed": True,
        "fee": "0.04727",
        "tid": tid,
        "feeToken": "USDC",
        "cloid": f"0x{77_001:032x}",
    }


def _funding(usdc: str) -> dict[str, object]:
    return {
        "time": _MS,
        "coin": values.COIN,
        "usdc": usdc,
        "szi": "0.001",
        "fundingRate": "0.0000125",
        "nSamples": 720,
    }


def _answer(number: int) -> str:
    statuses = {"statuses": [{"resting": {"oid": 77_000 + number}}]}
    payload = {"status": "ok", "response": {"type": "order", "data": statuses}}
    return _message("post", {"id": number, "response": {"type": "action", "payload": payload}})
