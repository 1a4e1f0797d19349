"""Strategies that fail in a real daemon: what they held is held or flattened, as configured."""

from __future__ import annotations

import textwrap
from decimal import Decimal
from pathlib import Path

from tests.harness.process import demo_config, free_port, running_daemon

FAILING = '''
    """Buys in pieces, rests a bid far below, and fails when it has all of that."""

    from decimal import Decimal

    from zq_daemon.model.market import Quote, Side
    from zq_daemon.strategy.base import Strategy


    class Failing(Strategy):
        def on_quote(self, quote: Quote) -> None:
            iid = quote.instrument_id
            missing = Decimal("0.009") - self.context.position(iid).quantity
            if not missing and self.context.open_orders():
                raise RuntimeError("enough")
            if self.context.live_orders():
                return
            if missing:
                self.context.submit_market(iid, Side.BUY, min(missing, Decimal("0.003")))
            else:
                far = quote.bid_price * Decimal("0.97")
                self.context.submit_limit(iid, Side.BUY, Decimal("0.001"), far)
'''

TABLES = """
[risk]
max_orders_per_second = 100
max_order_quantity = { "hyperliquid.BTC" = 0.003 }

[[strategies]]
name = "flat"
use = "failing:Failing"
path = "ideas"
instruments = ["hyperliquid.BTC"]
on_fault = "flatten"

[[strategies]]
name = "held"
use = "failing:Failing"
path = "ideas"
instruments = ["hyperliquid.BTC"]
on_fault = "hold"
"""


async def test_one_is_held_and_one_is_flattened_within_the_limits(tmp_path: Path) -> None:
    (tmp_path / "ideas").mkdir()
    (tmp_path / "ideas" / "failing.py").write_text(textwrap.dedent(FAILING))
    config = demo_config(free_port(), strategies=False) + TABLES
    async with running_daemon(tmp_path, config) as daemon:
        for name in ("flat", "held"):
            await daemon.wait_event("strategy faulted", strategy=name)
        await daemon.wait_event("strategy flattened", strategy="flat")
        status = await daemon.status()
        assert await daemon.stop() == 0
    flat, held = status["strategies"]
    assert flat["reason"].endswith("RuntimeError: enough; flattened")
    assert (flat["positions"], flat["live_orders"]) == ({"hyperliquid.BTC": "0"}, 0)
    assert held["reason"].endswith("RuntimeError: enough; its orders are held")
    assert (held["positions"], held["open_orders"]) == ({"hyperliquid.BTC": "0.009"}, 1)
    (position,) = status["positions"]
    assert position["quantity"] == "0.009"
    sold = [
        Decimal(line["quantity"])
        for line in daemon.log
        if line.get("event") == "order filled" and line["side"] == "sell"
    ]
    assert sum(sold) == Decimal("0.009")
    # halved until the risk limits let it pass: 0.009 and 0.0045 are too much
    assert max(sold) <= Decimal("0.003")
    too_large = [line for line in daemon.log if line.get("code") == "MAX_ORDER_QUANTITY"]
    assert [line["strategy"] for line in too_large] == ["flat", "flat"]
