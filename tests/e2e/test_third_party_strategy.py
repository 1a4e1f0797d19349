"""Strategies in a folder of a user's own: they trade, are checked, and harm only themselves."""

from __future__ import annotations

import textwrap
from decimal import Decimal
from pathlib import Path

import pytest

from tests.harness.process import demo_config, free_port, running_command, running_daemon

MINE = '''
    """What a user writes: nothing of it is installed anywhere."""

    from decimal import Decimal

    from attrs import field, frozen, validators

    from zq_daemon.model.fill import Fill
    from zq_daemon.model.market import Quote, Side, Trade
    from zq_daemon.strategy.base import Strategy


    class BuyAndSell(Strategy):
        """Buys once, and sells what it got."""

        @frozen
        class Params:
            quantity: Decimal = field(validator=validators.gt(0))

        def on_start(self) -> None:
            self.began = False

        def on_quote(self, quote: Quote) -> None:
            if not self.began and self.context.is_current(quote.instrument_id):
                self.began = True
                self.context.submit_market(quote.instrument_id, Side.BUY, self.params.quantity)

        def on_fill(self, fill: Fill) -> None:
            position = self.context.position(fill.instrument_id).quantity
            self.context.log.info("my fill", side=fill.side.value, flat=not position)
            if position == self.params.quantity:
                self.context.submit_market(fill.instrument_id, Side.SELL, position)


    class Fragile(Strategy):
        """Rests a bid far below the market and breaks at the trade after it."""

        def on_start(self) -> None:
            self.bid = None

        def on_trade(self, trade: Trade) -> None:
            if self.bid is None:
                price = trade.price * Decimal("0.97")
                quantity = Decimal("0.001")
                self.bid = self.context.submit_limit(
                    trade.instrument_id, Side.BUY, quantity, price
                )
            elif self.context.open_orders():
                raise ZeroDivisionError("the market is flat")
'''

TABLES = """
[[strategies]]
name = "mine"
use = "my_ideas:BuyAndSell"
path = "ideas"
instruments = ["hyperliquid.BTC"]
params = { quantity = "0.002" }

[[strategies]]
name = "fragile"
use = "my_ideas:Fragile"
path = "ideas"
instruments = ["hyperliquid.BTC"]
"""


def _write_strategies(folder: Path) -> None:
    (folder / "ideas").mkdir()
    (folder / "ideas" / "my_ideas.py").write_text(textwrap.dedent(MINE))


async def test_a_strategy_of_ones_own_trades_and_a_broken_one_ends_alone(tmp_path: Path) -> None:
    _write_strategies(tmp_path)
    async with running_daemon(tmp_path, demo_config(free_port()) + TABLES) as daemon:
        sold = await daemon.wait_event("my fill", side="sell", flat=True)
        faulted = await daemon.wait_event("strategy faulted", strategy="fragile")
        bid = await daemon.wait_event("order accepted", strategy="fragile")
        gone = await daemon.wait_event("order canceled", strategy="fragile")
        since = len(daemon.log)
        await daemon.wait_event("order filled", since=since)
        status = {one["name"]: one for one in (await daemon.status())["strategies"]}
        assert await daemon.stop() == 0
    assert sold["strategy"] == "mine"
    assert faulted["reason"].endswith("ZeroDivisionError: the market is flat")
    assert gone["client_order_id"] == bid["client_order_id"]
    states = {name: one["state"] for name, one in status.items()}
    assert states == {
        "trend": "running",
        "maker": "running",
        "mine": "running",
        "fragile": "faulted",
    }
    assert "the market is flat" in status["fragile"]["reason"]
    assert (status["fragile"]["faults"], status["fragile"]["live_orders"]) == (1, 0)
    assert Decimal(status["mine"]["positions"]["hyperliquid.BTC"]) == 0
    assert Decimal(status["mine"]["fees"]) > 0
    assert not [line for line in daemon.log[since:] if line.get("strategy") == "fragile"]


BAD_PARAMS = {
    'quantity = "much", quantitty = 2': [
        "quantity: expected a number, got the string 'much'",
        "quantitty: unknown key; did you mean 'quantity'?",
    ],
    'quantity = "-1"': ["quantity: 'quantity' must be > 0"],
    "": ["quantity: required"],
}


@pytest.mark.parametrize("params", BAD_PARAMS)
async def test_its_parameters_are_checked_like_the_rest_of_the_file(
    tmp_path: Path, params: str
) -> None:
    _write_strategies(tmp_path)
    path = tmp_path / "config.toml"
    path.write_text(demo_config(free_port()) + TABLES.replace('quantity = "0.002"', params))
    line = path.read_text().splitlines().index(f"params = {{ {params} }}") + 1
    async with running_command(["run", "--config", str(path)], tmp_path) as daemon:
        assert await daemon.wait_exit() == 78
    told = [str(each.get("text")) for each in daemon.log]
    assert len(told) == len(BAD_PARAMS[params])
    for each in BAD_PARAMS[params]:
        start = f"{path}:{line}: strategies[2].params.{each}"
        assert any(one.startswith(start) for one in told), told
