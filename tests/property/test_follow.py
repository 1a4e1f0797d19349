"""Whatever a followed venue says: the exchange that follows goes on, and believes no nonsense."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.exchange_rig import START_NS, HandClock, Rig
from zq_daemon.model.market import Side
from zq_daemon.venue.exchange.follow import FOLLOWED, FollowMarket
from zq_daemon.venue.exchange.listing import LISTED, PAIRS, Listing
from zq_daemon.venue.exchange.public_messages import parse_message

NOW_MS = START_NS // 1_000_000
LEVEL = {"px": "100", "sz": "2", "n": 1}
OFFER = {"px": "101", "sz": "1", "n": 1}
TRADE = {
    "coin": "BTC",
    "side": "A",
    "px": "99",
    "sz": "1",
    "time": NOW_MS,
    "hash": "0x0",
    "tid": 5,
    "users": ["0x0", "0x1"],
}
BOOK = {
    "channel": "l2Book",
    "data": {"coin": "BTC", "time": NOW_MS, "levels": [[LEVEL], [OFFER]]},
}
SAID = (
    BOOK,
    {"channel": "bbo", "data": {"coin": "BTC", "time": NOW_MS, "bbo": [LEVEL, OFFER]}},
    {"channel": "trades", "data": [TRADE, TRADE | {"tid": 6}]},
    {"channel": "activeAssetCtx", "data": {"coin": "BTC", "ctx": {"oraclePx": "100.5"}}},
    {"channel": "activeSpotAssetCtx", "data": {"coin": "@107", "ctx": {"markPx": "25"}}},
    {"channel": "allMids", "data": {"mids": {"BTC": "100.5", "@107": "25"}}},
    {"channel": "subscriptionResponse", "data": {"method": "subscribe"}},
)
nonsense = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "0", "-1", "1e9", "NaN", "9" * 18, "0." + "0" * 11 + "1", "A", "@107"]),
    st.text(max_size=5),
    st.just([]),
    st.just({}),
    st.just([[], []]),
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything in *value*, itself too."""
    yield path
    items = value.items() if isinstance(value, dict) else ()
    items = enumerate(value) if isinstance(value, list) else items
    for key, child in items:
        yield from places(child, (*path, key))


def spoilt(message: Any, path: tuple[Any, ...], by: Any) -> Any:
    """*message* with *by* at *path*."""
    if not path:
        return by
    message = deepcopy(message)
    inner = message
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = by
    return message


@st.composite
def messages(draw: st.DrawFn) -> str:
    message = draw(st.sampled_from(SAID))
    for _ in range(draw(st.integers(0, 2))):
        path = draw(st.sampled_from(list(places(message))))
        message = spoilt(message, path, draw(nonsense))
    return json.dumps(message)


@settings(max_examples=300)
@given(st.lists(messages(), max_size=6))
def test_whatever_the_venue_says_the_exchange_goes_on(said: list[str]) -> None:
    clock = HandClock()
    market = FollowMarket(Listing(LISTED, PAIRS), clock)
    rig = Rig(market, clock)
    listener = rig.listen({"type": "trades", "coin": "BTC"}, {"type": "bbo", "coin": "BTC"})
    for number, raw in enumerate([*said, *map(json.dumps, (BOOK, *SAID))]):
        message = parse_message(raw, FOLLOWED)
        if message is not None and message.channel:
            market._arrive.send_nowait(message)
        clock.advance_ms(1)
        rig.exchange.step(clock.ns)
        order = "buy", f"{100 - number % 3}", "1"
        rig.place(rig.alice, *order)
    for message in listener.heard():
        assert message["channel"] in ("subscriptionResponse", "trades", "bbo")
    for side in Side:
        prices = [level.price for level in market.matcher("BTC").depth(side, 99)]
        assert all(price >= 0 for price in prices)
