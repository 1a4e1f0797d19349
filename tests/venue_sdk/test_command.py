"""The official SDK against `zq-daemon exchange` in a process of its own, without any set-up."""

from __future__ import annotations

import trio

from tests.harness.process import free_port, running_command
from tests.venue_sdk.sdk import Trader


async def test_a_client_needs_nothing_but_the_address(tmp_path):
    port = free_port()
    async with running_command(
        ["exchange", "--port", str(port), "--seed", "7"], tmp_path
    ) as market:
        await market.wait_event("exchange open")
        with trio.fail_after(60):
            await trio.to_thread.run_sync(_trade, f"http://127.0.0.1:{port}")
        assert await market.stop() == 0


def _trade(url: str) -> None:
    trader = Trader(url, 1)
    try:
        for coin, size in (("BTC", 0.01), ("HYPE/USDC", 5.0)):
            (status,) = trader.statuses(trader.sdk.market_open(coin, True, size))
            assert float(status["filled"]["totalSz"]) == size
        state = trader.info.user_state(trader.address)
        assert [each["position"]["szi"] for each in state["assetPositions"]] == ["0.01"]
        tokens = trader.info.spot_user_state(trader.address)["balances"]
        assert {each["coin"] for each in tokens} == {"USDC", "HYPE"}
        _, key = trader.sdk.approve_agent("bot")
        agent = Trader(url, key, account_address=trader.address)
        agent.sdk.market_close("BTC")
        agent.close()
        assert trader.info.user_state(trader.address)["assetPositions"] == []
    finally:
        trader.close()
