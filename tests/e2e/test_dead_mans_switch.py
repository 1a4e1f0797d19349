"""The dead man's switch: a daemon that is gone leaves no order behind, a stop takes it back.

The leverage that a daemon sets at its start is seen here too.
"""

from __future__ import annotations

from pathlib import Path

import trio
from attrs import evolve

from tests.harness.floor import Terms, open_floor

_ORDERS = 2
_SWITCH = "dead_mans_switch_ms = 15000"
_TERMS = Terms(orders=_ORDERS, offset_bps="50", on_stop="leave", venue=_SWITCH)


async def test_orders_of_a_daemon_that_is_gone_are_cancelled_by_the_venue(tmp_path: Path) -> None:
    async with open_floor(tmp_path, seed=1) as floor:
        floor.configure(_TERMS)
        async with floor.daemon() as daemon:
            await floor.wait_resting(_ORDERS)
            assert list((await daemon.status())["dead_mans_switch"].values()) == [None]
            daemon.process.kill()
            await daemon.process.wait()
        assert await floor.resting() == {"BTC": _ORDERS, "ETH": _ORDERS}
        with trio.fail_after(30):
            while any((await floor.resting()).values()):
                await trio.sleep(0.2)
        (history,) = await floor.ask("historicalOrders")
        assert {row["status"] for row in history} == {"scheduledCancel"}


async def test_a_stop_takes_it_back_and_leverage_is_set_at_the_start(tmp_path: Path) -> None:
    leverage = 'leverage = { "hyperliquid.BTC" = 7 }'
    async with open_floor(tmp_path, seed=2) as floor:
        floor.configure(evolve(_TERMS, venue=f"{_SWITCH}\n{leverage}"))
        async with floor.daemon() as daemon:
            await floor.wait_resting(_ORDERS)
            assert await daemon.stop() == 0
        left_at = trio.current_time()
        assert await floor.resting() == {"BTC": _ORDERS, "ETH": _ORDERS}
        await trio.sleep_until(left_at + 16)
        assert await floor.resting() == {"BTC": _ORDERS, "ETH": _ORDERS}
        assert "dead man's switch not taken back" not in str(daemon.log)
        assert "leverage not set" not in str(daemon.log)
        (data,) = await floor.ask("activeAssetData", coin="BTC")
        assert data["leverage"] == {"type": "cross", "value": 7}
