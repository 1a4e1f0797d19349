"""What operators tell a running daemon, verb by verb: the whole daemon on virtual time."""

from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from attrs import evolve
from structlog.testing import capture_logs

from tests.harness.memory_network import MemoryNetwork
from tests.harness.process import demo_config
from zq_daemon.assembly import Ports
from zq_daemon.config.load import parse_document, structure_config
from zq_daemon.control.arguments import BadRequest
from zq_daemon.control.verbs import handlers
from zq_daemon.daemon import Daemon, open_daemon
from zq_daemon.errors import ControlError, StrategyError, ZqError
from zq_daemon.model.ids import AccountId, ClientOrderId, InstrumentId, StrategyId
from zq_daemon.model.order import OrderStatus
from zq_daemon.ports.clock import VirtualClock
from zq_daemon.ports.disk import MemoryDisk
from zq_daemon.ports.rng import seeded_rng
from zq_daemon.venue.exchange.faults import Faults

pytestmark = pytest.mark.virtual
_PORT = 18_473
_MAKER = StrategyId("maker")


class Desk:
    """An operator at a daemon: asks its verbs as the control socket does."""

    def __init__(self, daemon: Daemon, network: MemoryNetwork) -> None:
        self.daemon = daemon
        self.network = network
        self.parts = daemon.parts
        self._handlers = handlers(daemon)

    async def ask(self, command: str, **args: Any) -> Any:
        answer = self._handlers[command]({"command": command, **args})
        return await answer if isinstance(answer, Awaitable) else answer

    async def quotes(self) -> tuple[ClientOrderId, ...]:
        """The market maker's resting orders, once both sides are there."""
        while True:
            resting = self.parts.cache.orders_open(strategy_id=_MAKER)
            if len(resting) == 2 and not any(order.is_in_flight for order in resting):
                return tuple(order.client_order_id for order in resting)
            await trio.sleep(0.01)

    def misbehave(self, **faults: Any) -> None:
        assert self.daemon.exchange is not None
        self.daemon.exchange.faults = Faults(**faults)

    def status_of(self, client_order_id: ClientOrderId) -> OrderStatus:
        order = self.parts.cache.order(client_order_id)
        assert order is not None
        return order.status


@asynccontextmanager
async def desk(folder: Path, *, quiet: bool = True) -> AsyncIterator[Desk]:
    """A desk at the demo; *quiet*: two quotes so far out that nobody trades with or moves them."""
    network = MemoryNetwork()
    text = demo_config(_PORT)
    if quiet:
        text = text.replace('spread_bps = "2"', 'spread_bps = "200", requote_bps = "900"')
    document = parse_document(text, "test")
    config = evolve(structure_config(document), state_dir=str(folder))
    disk = MemoryDisk(sync_s=0.0002)
    ports = Ports(clock=VirtualClock(), rng=seeded_rng(3), network=network, disk=disk)
    async with open_daemon(config, ports=ports) as daemon:
        yield Desk(daemon, network)


async def test_all_that_live_are_cancelled_while_strategies_trade_on(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        resting = await at.quotes()
        with capture_logs() as logged:
            answer = await at.ask("cancel-all", wait_s=10)
        assert answer["asked"] >= answer["cancelled"] >= len(resting)
        assert answer["unverified"] == 0
        assert answer["unverified_orders"] == []
        assert {at.status_of(each) for each in resting} == {OrderStatus.CANCELED}
        again = await at.quotes()
        assert not set(again) & set(resting)
    told = [line for line in logged if line["event"] == "cancelling all orders"]
    assert [(line["orders"], line["by"]) for line in told] == [(answer["asked"], "control socket")]


async def test_a_cancel_is_waited_for_as_long_as_it_takes_and_nobody_else_waits(
    tmp_path: Path,
) -> None:
    async with desk(tmp_path) as at:
        resting = await at.quotes()
        at.misbehave(cancel_latency_ms=3_000)
        began, answers = trio.current_time(), []

        async def cancel() -> None:
            answers.append(await at.ask("cancel-all", strategy="maker", wait_s=60))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel)
            await trio.sleep(1)
            shown = await at.ask("orders", kind="in_flight", strategy="maker")
            assert (await at.ask("status"))["daemon"]["state"] == "running"
            assert trio.current_time() - began < 1.1
            assert not answers
        assert 3 <= trio.current_time() - began < 4
    assert answers[0]["cancelled"] == len(resting)
    assert [row["client_order_id"] for row in shown["orders"]] == list(resting)
    for row in shown["orders"]:
        assert row["status"] == "accepted"
        assert row["pending"] == "cancel"
        assert row["in_flight_s"] == pytest.approx(1, abs=0.05)
        assert row["why"] == "cancel asked for, no outcome known"


async def test_only_what_was_named_is_cancelled(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        resting = await at.quotes()
        for narrowed in ({"strategy": "trend"}, {"instrument": "hyperliquid.ETH"}):
            answer = await at.ask("cancel-all", wait_s=5, **narrowed)
            assert answer["cancelled"] == answer["unverified"] == 0
        assert {at.status_of(each) for each in resting} <= {
            OrderStatus.ACCEPTED,
            OrderStatus.PARTIALLY_FILLED,
        }
        answer = await at.ask(
            "cancel-all", wait_s=5, strategy="maker", instrument="hyperliquid.BTC"
        )
        assert answer["cancelled"] == answer["asked"] == 2


async def test_what_the_venue_did_not_confirm_is_unverified_and_tried_again(
    tmp_path: Path,
) -> None:
    async with desk(tmp_path) as at:
        resting = await at.quotes()
        await at.ask("halt")
        await at.network.partition("127.0.0.1", _PORT)
        began = trio.current_time()
        answer = await at.ask("cancel-all", strategy="maker", wait_s=5)
        assert trio.current_time() - began == pytest.approx(5, abs=0.01)
        at.network.heal("127.0.0.1", _PORT)
        left = [each for each in resting if each in answer["unverified_orders"]]
        assert left
        assert answer["unverified"] == len(answer["unverified_orders"])
        later = await at.ask("cancel-all", strategy="maker", wait_s=600)
        assert later["unverified"] == 0
        assert not at.parts.cache.orders_live()


async def test_orders_that_were_filled_instead_are_neither(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.quotes()
        at.misbehave(fill_on_cancel_count=1)
        answer = await at.ask("cancel-all", strategy="maker", wait_s=10)
    assert (answer["cancelled"], answer["otherwise"], answer["unverified"]) == (1, 1, 0)


async def test_without_waiting_it_is_only_asked_for(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        resting = await at.quotes()
        began = trio.current_time()
        assert await at.ask("cancel-all", strategy="maker") == {"asked": 2}
        assert trio.current_time() == began
        await trio.sleep(1)
        assert {at.status_of(each) for each in resting} == {OrderStatus.CANCELED}


async def test_so_many_may_wait_that_others_get_through(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.quotes()
        at.misbehave(cancel_latency_ms=3_000)
        many = at.daemon.config.limits.control_clients // 2
        async with trio.open_nursery() as nursery:
            for _ in range(many):
                nursery.start_soon(partial(at.ask, "cancel-all", wait_s=3_600))
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(ControlError, match="too many clients wait"):
                await at.ask("cancel-all", wait_s=1)
            assert "asked" in await at.ask("cancel-all")
        assert (await at.ask("cancel-all", wait_s=10))["unverified"] == 0


async def test_a_client_that_is_cut_off_leaves_no_listener_behind(tmp_path: Path) -> None:
    topic = "order.accepted.nobody.hyperliquid.BTC"
    async with desk(tmp_path) as at:
        await at.quotes()
        at.misbehave(cancel_latency_ms=3_000)
        heard = []
        with trio.move_on_after(1):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(at.ask, "cancel-all", wait_s=60))
                await trio.testing.wait_all_tasks_blocked()
                heard.append(at.parts.bus.has_subscribers(topic))
        heard.append(at.parts.bus.has_subscribers(topic))
    assert heard == [True, False]


async def test_orders_are_listed_by_kind(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await trio.sleep(20)
        resting = await at.quotes()
        cache = at.parts.cache
        told = {kind: await at.ask("orders", kind=kind) for kind in ("live", "open", "closed")}
        ids = {kind: [row["client_order_id"] for row in told[kind]["orders"]] for kind in told}
        assert ids["open"] == [order.client_order_id for order in cache.orders_open()]
        assert ids["closed"] == [order.client_order_id for order in cache.orders_closed()]
        assert set(resting) <= set(ids["live"])
        assert await at.ask("orders") == told["live"]
        (row,) = [one for one in told["live"]["orders"] if one["client_order_id"] == resting[0]]
        order = cache.order(resting[0])
    assert order is not None
    assert row["strategy"] == "maker"
    assert row["instrument"] == "hyperliquid.BTC"
    assert Decimal(row["price"]) == order.price
    assert Decimal(row["quantity"]) == order.quantity
    assert (row["status"], row["pending"], row["in_flight_s"]) == ("accepted", None, None)
    assert row["venue_order_id"] == order.venue_order_id
    assert 0 <= row["changed_s"] <= row["age_s"] < 30


async def test_the_newest_are_listed_where_there_are_too_many(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await trio.sleep(30)
        every = [order.client_order_id for order in at.parts.cache.orders_closed()]
        answer = await at.ask("orders", kind="closed", limit=3)
    assert len(every) > 3
    assert answer["total"] == len(every)
    assert [row["client_order_id"] for row in answer["orders"]] == every[-3:]


async def test_a_submit_without_an_answer_is_told_as_such(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.quotes()
        at.misbehave(drop_replies=True, private_latency_ms=5_000)
        await at.ask("cancel-all", strategy="maker")
        rows: list[dict[str, Any]] = []
        while not rows:
            await trio.sleep(0.1)
            answer = await at.ask("orders", kind="in_flight")
            rows = [row for row in answer["orders"] if row["status"] == "submitted"]
        at.misbehave()
    assert rows[0]["why"] == "sent, no outcome known"
    assert rows[0]["venue_order_id"] is None


async def test_positions_of_accounts_and_strategies(tmp_path: Path) -> None:
    async with desk(tmp_path, quiet=False) as at:
        await trio.sleep(30)
        answer = await at.ask("positions")
        portfolio = at.parts.portfolio
        (account,) = answer["accounts"]
        assert account["account"] == at.parts.accounts[0]
        held = {row["instrument"]: Decimal(row["quantity"]) for row in account["rows"]}
        parts = [Decimal(row["quantity"]) for row in answer["strategies"]["rows"]]
        assert held["hyperliquid.BTC"] == sum(parts)
        assert Decimal(account["sums"]["fees"]) == portfolio.pnl().fees.quantize(Decimal("1e-8"))
        assert Decimal(account["sums"]["fees"]) > 0
        paid = portfolio.fees(at.parts.accounts[0])
        assert {name: Decimal(fee) for name, fee in account["fees"].items()} == paid
        statement = portfolio.account(at.parts.accounts[0])
        assert [
            (each["currency"], each["wallet"], Decimal(each["total"]), Decimal(each["free"]))
            for each in account["balances"]
        ] == [
            (each.currency, "spot" if each.is_spot else "contracts", each.total, each.free)
            for each in statement.balances
        ]
        assert len(statement.balances) == 2
        assert {row["strategy"] for row in answer["strategies"]["rows"]} == {"trend", "maker"}
        for part in (account, answer["strategies"]):
            assert part["total"] == len(part["rows"])
            for name in ("unrealized_pnl", "realized_pnl", "fees", "funding", "net_pnl"):
                assert Decimal(part["sums"][name]) == pytest.approx(
                    sum(Decimal(row[name]) for row in part["rows"]), abs=Decimal("1e-7")
                )
        alone = await at.ask("positions", strategy="maker")
        assert list(alone) == ["strategies"]
        assert [row["strategy"] for row in alone["strategies"]["rows"]] == ["maker"]


async def test_what_is_flat_on_an_account_of_former_runs_is_not_in_the_status(
    tmp_path: Path,
) -> None:
    former = AccountId("hyperliquid.0xformer")
    async with desk(tmp_path) as at:
        await at.quotes()
        portfolio, ours = at.parts.portfolio, at.parts.accounts[0]
        for account_id, symbol, quantity in (
            (former, "BTC", "0"),
            (former, "ETH", "1"),
            (ours, "BTC", "0"),
        ):
            instrument_id = InstrumentId(f"hyperliquid.{symbol}")
            position = portfolio.position(account_id, instrument_id)
            portfolio.restore_position(evolve(position, quantity=Decimal(quantity)), None)
        told = at.daemon.status()["positions"]
    assert {(row["account"], row["instrument"]) for row in told} == {
        (former, "hyperliquid.ETH"),
        (ours, "hyperliquid.BTC"),
    }


async def test_only_an_instrument_that_is_named_is_suggested(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        told = {instrument.id for instrument in at.parts.cache.instruments()}
        hidden = sorted(told - set(at.parts.instruments))
        assert hidden
        with pytest.raises(BadRequest) as refused:
            await at.ask("cancel-all", instrument=hidden[0].partition(".")[2].lower())
        assert hidden[0] not in str(refused.value)


async def test_the_reason_of_a_halt_is_in_status_and_log(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        resting = await at.quotes()
        with capture_logs() as logged:
            told = await at.ask("halt", reason="the price feed looks odd")
        assert told == "halted: no order leaves, open ones are cancelled"
        await trio.sleep(1)
        reason = "kill switch: control socket: the price feed looks odd"
        assert at.daemon.status()["daemon"]["trading_reason"] == reason
        assert [line["reason"] for line in logged if "trading state" in line["event"]] == [reason]
        assert {at.status_of(each) for each in resting} == {OrderStatus.CANCELED}
        again = await at.ask("halt", reason="still")
        assert again == f"halted already ({reason}): open orders are cancelled"
        assert await at.ask("activate", reason="it was maintenance") == "active"
        assert await at.ask("activate") == "active already"
        status = at.daemon.status()["daemon"]
        assert status["trading_reason"] == "control socket: it was maintenance"
        assert await at.quotes()


async def test_a_second_halt_cancels_what_still_rests(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        resting = await at.quotes()
        at.misbehave(refuse_cancels=True)
        await at.ask("halt")
        await trio.sleep(1)
        at.misbehave()
        with capture_logs() as logged:
            await at.ask("halt", reason="again")
        assert "halted already, cancelling all orders" in [line["event"] for line in logged]
        assert (await at.ask("cancel-all", wait_s=120))["unverified"] == 0
        assert {at.status_of(each) for each in resting} == {OrderStatus.CANCELED}


async def test_a_halted_strategy_is_named_and_resumed(tmp_path: Path) -> None:
    async with desk(tmp_path) as at:
        await at.quotes()
        at.parts.strategies.halt("maker", "a test")
        await trio.sleep(1)
        assert (await at.ask("activate")).endswith("still halted: maker (resume each)")
        assert await at.ask("resume", strategy="maker") == "maker is running"
        assert await at.quotes()
        with pytest.raises(StrategyError, match="maker"):
            await at.ask("resume", strategy="maker")


@pytest.mark.parametrize(
    ("command", "args", "told"),
    [
        (
            "resume",
            {"strategy": "makr"},
            "unknown strategy 'makr'; did you mean 'maker'? there are: ",
        ),
        ("resume", {"strategy": "qqq"}, "unknown strategy 'qqq'; there are: trend, maker"),
        ("resume", {}, "strategy: which one?"),
        ("cancel-all", {"strategy": "makr"}, "did you mean 'maker'? there are: trend, maker"),
        ("cancel-all", {"instrument": "btc"}, "did you mean 'hyperliquid.BTC'? there are: "),
        ("cancel-all", {"strategy": ""}, "strategy: expected a line of text, got ''"),
        ("cancel-all", {"strategy": 5}, "strategy: expected a line of text, got 5"),
        ("cancel-all", {"wait_s": -1}, "wait_s: expected seconds from 0 to 3600, got -1"),
        ("cancel-all", {"wait_s": True}, "wait_s: expected seconds"),
        ("cancel-all", {"strategi": "maker"}, "unknown argument 'strategi'; it takes strategy, "),
        (
            "orders",
            {"kind": "all"},
            "kind: expected one of live, open, in_flight, unknown, closed, got ",
        ),
        ("orders", {"kind": ["live"]}, "kind: expected one of"),
        ("orders", {"limit": 0}, "limit: expected a whole number from 1 to 10000, got 0"),
        ("orders", {"limit": 10_001}, "limit: expected a whole number"),
        ("orders", {"limit": 1.5}, "limit: expected a whole number"),
        ("orders", {"instrument": {"a": [1] * 9_000}}, "instrument: expected a line of text"),
        ("positions", {"strategy": "x" * 300}, "strategy: 300 characters; at most 200"),
        ("positions", {"strategy": "a\x1b[2J"}, "strategy: expected a line of text"),
        ("halt", {"reason": "x\ny"}, "reason: expected a line of text"),
        ("activate", {"reason": " "}, "reason: expected a line of text"),
        ("stop", {"force": True}, "unknown argument 'force'; it takes reason"),
        ("status", {"x" * 9_000: 1}, "unknown argument 'xxx"),
        ("reload", {"file": "x"}, "unknown argument 'file'; it takes none"),
        ("reconcile", {"dry_run": 1}, "dry_run: expected true or false, got 1"),
        ("reconcile", {"dry_run": "no"}, "dry_run: expected true or false, got 'no'"),
        ("reconcile", {"dry": True}, "unknown argument 'dry'; it takes dry_run, wait_s"),
        ("reconcile", {"wait_s": 1e9}, "wait_s: expected seconds from 0 to 3600"),
    ],
)
async def test_what_is_asked_wrongly_is_refused_by_name(
    tmp_path: Path, command: str, args: Mapping[str, Any], told: str
) -> None:
    async with desk(tmp_path) as at:
        await at.quotes()
        live = len(at.parts.cache.orders_live())
        with pytest.raises(BadRequest) as caught:
            await at.ask(command, **args)
        assert len(at.parts.cache.orders_live()) == live
        assert not at.daemon.stop_reason
    assert told in str(caught.value)
    assert len(str(caught.value)) < 400


async def test_a_daemon_that_starts_says_so(tmp_path: Path) -> None:
    document = parse_document(demo_config(_PORT), "test")
    config = evolve(structure_config(document), state_dir=str(tmp_path))
    ports = Ports(
        clock=VirtualClock(), rng=seeded_rng(3), network=MemoryNetwork(), disk=MemoryDisk()
    )
    verbs = handlers(Daemon(config, ports, None))
    assert verbs["status"]({"command": "status"})["daemon"]["state"] == "starting"
    for command in ("halt", "activate", "positions"):
        with pytest.raises(ZqError, match="still starting: try again"):
            verbs[command]({"command": command})
    for command in ("orders", "cancel-all", "reconcile"):
        with pytest.raises(ZqError, match="still starting: try again"):
            await verbs[command]({"command": command})


async def test_a_stop_ends_what_is_waited_for(tmp_path: Path) -> None:
    async with trio.open_nursery() as nursery:
        answers: list[Any] = []
        async with desk(tmp_path) as at:
            await at.quotes()
            at.misbehave(cancel_latency_ms=1_000)

            async def cancel() -> None:
                answers.append(await at.ask("cancel-all", wait_s=60))

            nursery.start_soon(cancel)
            await trio.testing.wait_all_tasks_blocked()
            assert await at.ask("stop", reason="done for today") == "stopping"
            assert at.daemon.stop_reason == "control socket: done for today"
    assert answers[0]["unverified"] == 0
