"""The adapter keeps within the venue's limits: what queries weigh, 429s, the account's actions."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from tests.service.test_hl_adapter import FILL, META, STATE, InfoServer, adapter
from zq_daemon.errors import LinkError
from zq_daemon.model.ids import ClientOrderId
from zq_daemon.venue.hyperliquid.adapter import HyperliquidAdapter

pytestmark = pytest.mark.virtual

CLOID = ClientOrderId("0x" + "0" * 31 + "1")
ACTIONS = {"cumVlm": "12345.6", "nRequestsUsed": 2_890, "nRequestsCap": 22_345}


def server(nursery: trio.Nursery, **answers: Any) -> InfoServer:
    known: dict[str, Any] = {
        "meta": META,
        "clearinghouseState": STATE,
        "frontendOpenOrders": [],
        "userRateLimit": ACTIONS,
        "orderStatus": {"status": "unknownOid"},
    }
    return InfoServer(nursery, **(known | answers))


def weight(venue: HyperliquidAdapter) -> int:
    return int(venue.budgets["weight_used"])


async def test_queries_weigh_what_is_documented():
    async with trio.open_nursery() as nursery:
        venue = adapter(server(nursery, userFillsByTime=[FILL] * 450))
        await venue.load_instruments()
        assert weight(venue) == 20 + 20
        await venue.query_order(CLOID)
        assert weight(venue) == 42
        await venue.load_account()  # userRole, userRateLimit, clearinghouseState, orders
        assert weight(venue) == 42 + 60 + 20 + 2 + 20
        await venue.load_fills(0)
        assert weight(venue) == 144 + 20 + 22
        await trio.sleep(61)
        assert weight(venue) == 0
        await venue.aclose()


async def test_the_accounts_actions_are_learned_and_shown():
    async with trio.open_nursery() as nursery:
        venue = adapter(server(nursery))
        assert venue.budgets["actions_used"] is None
        await venue.load_account()
        assert (venue.budgets["actions_used"], venue.budgets["actions_limit"]) == (2_890, 22_345)
        assert venue.budgets["cancels_limit"] == 44_690
        assert venue.order_entry is not None
        assert venue.order_entry.why_not_now("submit") is None
        await venue.aclose()


async def test_the_accounts_actions_are_asked_for_once_a_minute():
    async with trio.open_nursery() as nursery:
        far = server(nursery)
        venue = adapter(far)
        for pause_s, asked in ((0, 1), (30, 1), (31, 2)):
            await trio.sleep(pause_s)
            await venue.load_account()
            assert [query["type"] for query in far.asked].count("userRateLimit") == asked
        await venue.aclose()


@pytest.mark.parametrize("answer", [500, 422, b"null", {"nRequestsUsed": -1, "nRequestsCap": 5}])
async def test_an_account_is_loaded_without_them_too(answer):
    async with trio.open_nursery() as nursery:
        venue = adapter(server(nursery, userRateLimit=answer))
        assert (await venue.load_account()).account.equity
        assert venue.budgets["actions_limit"] is None
        await venue.aclose()


async def test_without_a_key_nobody_asks_for_them():
    async with trio.open_nursery() as nursery:
        far = server(nursery)
        venue = adapter(far, key=None)
        await venue.load_account()
        assert "userRateLimit" not in {query["type"] for query in far.asked}
        await venue.aclose()


async def test_queries_wait_for_room_and_fail_when_that_is_too_late():
    async with trio.open_nursery() as nursery:
        far = server(nursery)
        venue = adapter(far, weight_per_minute=50, http_timeout_ms=20_000)
        await venue.load_instruments()
        await trio.sleep(5)
        with pytest.raises(LinkError, match=r"meta: rate limit: none free for 5\d\.\d s"):
            await venue.load_instruments()
        assert len(far.asked) == 2
        await trio.sleep(45)
        started = trio.current_time()
        await venue.load_instruments()
        assert 10 <= trio.current_time() - started <= 12
        assert len(far.asked) == 4
        await venue.aclose()


async def test_waiting_queries_go_one_by_one_and_never_exceed_the_limit():
    async with trio.open_nursery() as nursery:
        far = server(nursery)
        venue = adapter(far, weight_per_minute=100, http_timeout_ms=90_000)
        sent: list[float] = []

        async def ask() -> None:
            await venue.query_order(CLOID)
            sent.append(trio.current_time())

        async with trio.open_nursery() as questions:
            for _ in range(120):
                questions.start_soon(ask)
        sent.sort()
        for place in range(len(sent) - 48):
            assert sent[place + 48] - sent[place] > 59
        await venue.aclose()


async def test_after_a_429_nobody_asks_until_the_pause_is_over():
    async with trio.open_nursery() as nursery:
        far = server(nursery, orderStatus=429)
        venue = adapter(far, http_timeout_ms=5_000)
        with pytest.raises(LinkError, match="429"):
            await venue.query_order(CLOID)
        assert venue.order_entry is not None
        assert "too many" in str(venue.order_entry.why_not_now("submit"))
        started = trio.current_time()
        with pytest.raises(LinkError, match="429"):
            await venue.query_order(CLOID)
        assert 0.75 <= trio.current_time() - started <= 1.1
        far.answers["orderStatus"] = {"status": "unknownOid"}
        started = trio.current_time()
        assert await venue.query_order(CLOID) is None
        assert 1.5 <= trio.current_time() - started <= 2.1
        assert venue.order_entry.why_not_now("submit") is None
        assert venue.budgets["refused"] == 2
        await venue.aclose()


async def test_a_long_pause_is_a_link_error_at_once():
    async with trio.open_nursery() as nursery:
        far = server(nursery, orderStatus=429)
        venue = adapter(far, http_timeout_ms=1_500)
        for _ in range(2):
            with pytest.raises(LinkError, match="429"):
                await venue.query_order(CLOID)
        asked, started = len(far.asked), trio.current_time()
        with pytest.raises(LinkError, match="orderStatus: rate limit"):
            await venue.query_order(CLOID)
        assert (len(far.asked), trio.current_time()) == (asked, started)
        await venue.aclose()
