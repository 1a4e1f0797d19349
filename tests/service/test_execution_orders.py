"""The order path: admitted, tracked, durable, sent, concluded."""

from __future__ import annotations

from decimal import Decimal

import pytest
import trio
from attrs import evolve

from tests.harness.journal import durable_bytes, intent_prefix, intents_of
from tests.service.execution_rig import (
    ACCOUNT,
    BTC,
    ETH,
    MAKER,
    RUN_ID,
    after,
    later,
    never,
    open_rig,
    open_risk,
    statement,
)
from zq_daemon.engine.execution import ExecutionSettings
from zq_daemon.errors import JournalError, LinkError, LogError
from zq_daemon.journal.digest import differences
from zq_daemon.journal.opening import load_state
from zq_daemon.model.account import Balance
from zq_daemon.model.command import CancelAllOrders
from zq_daemon.model.event import (
    OrderDenied,
    OrderInitialized,
    OrderJournalled,
    OrderPendingRejected,
    OrderRejected,
    TradingState,
)
from zq_daemon.model.ids import AccountId, InstrumentId, VenueOrderId
from zq_daemon.model.market import Quote, Side
from zq_daemon.model.order import OrderStatus, OrderType, Pending, TimeInForce
from zq_daemon.ports.disk import MemoryDisk
from zq_daemon.venue.interface import Acknowledged, Ambiguous, Executed, NotSent, Refused

pytestmark = pytest.mark.virtual

ACCEPTED = ["initialized", "journalled", "submitted", "accepted"]


async def test_an_order_is_durable_before_it_leaves() -> None:
    async with open_rig() as rig:
        durable_when_sent: list[bytes] = []
        rig.entry.before_send = lambda _: durable_when_sent.append(durable_bytes(rig.disk))
        cloid = rig.submit()
        assert rig.now(cloid).status is OrderStatus.INITIALIZED  # tracked at once
        await later(1)
        assert rig.names(cloid) == ACCEPTED
        assert rig.now(cloid).venue_order_id == "v1"
        (record,) = await intents_of(rig.disk)
        assert intent_prefix(cloid, nonce=1) in durable_when_sent[0]
        assert (record.kind, record.client_order_id, record.run_id) == ("submit", cloid, RUN_ID)
        assert (record.price, record.quantity, record.side) == (Decimal(99), Decimal(1), Side.BUY)
        assert (record.nonce, record.action_hash) == (1, (1).to_bytes(32, "big").hex())
        assert record.expires_ns is not None
        assert rig.last(OrderJournalled).expires_ns == record.expires_ns
        assert record.strategy_id == MAKER


async def test_orders_are_normalised_passively() -> None:
    async with open_rig() as rig:
        buy = rig.submit(price=Decimal("99.97"), quantity="1.0009")
        sell = rig.submit(side=Side.SELL, price=Decimal("101.01"))
        assert (rig.now(buy).price, rig.now(buy).quantity) == (Decimal("99.9"), Decimal("1.000"))
        assert rig.now(sell).price == Decimal("101.1")


async def test_what_is_not_quoted_in_the_accounts_currency_is_denied() -> None:
    async with open_rig() as rig:
        await later(1)
        usdt = Balance(currency="USDT", total=Decimal(1), free=Decimal(1))
        rig.cache.put_account(evolve(statement(1, {}).account, balances=(usdt,)))
        rig.submit()
        assert rig.last(OrderDenied).code == "QUOTE_CURRENCY"


async def test_a_market_order_gets_a_protective_price() -> None:
    async with open_rig() as rig:
        buy = rig.submit(order_type=OrderType.MARKET, price=None)
        sell = rig.submit(side=Side.SELL, order_type=OrderType.MARKET, price=None)
        assert rig.now(buy).price == Decimal("101.1")  # best offer 100.1, 1 % of slippage
        assert rig.now(sell).price == Decimal("99.0")  # best bid 99.9
        assert rig.now(buy).time_in_force is TimeInForce.IOC


async def test_orders_of_one_moment_share_a_request_and_a_commit() -> None:
    async with open_rig() as rig:
        await rig.journal.durable()
        before, commits = rig.log.commits, []
        rig.entry.before_send = lambda _: commits.append(rig.log.commits - before)
        cloids = [rig.submit() for _ in range(5)]
        await later(1)
        assert [request.client_order_ids for _, request in rig.entry.sent] == [tuple(cloids)]
        assert commits == [1]  # what is asked for and the intents, in one
        assert rig.log.commits - before == 2  # and that they left and were accepted, in another


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"account_id": AccountId("0xother")}, "UNKNOWN_ACCOUNT"),
        ({"instrument_id": InstrumentId("hl.DOGE")}, "UNKNOWN_INSTRUMENT"),
        ({"quantity": Decimal("0.0009")}, "INVALID_QUANTITY"),
        ({"quantity": Decimal(-1)}, "INVALID_QUANTITY"),
        ({"price": None}, "INVALID_PRICE"),
        ({"price": Decimal("0.01")}, "INVALID_PRICE"),
        ({"post_only": True, "time_in_force": TimeInForce.IOC}, "INVALID_ORDER"),
        ({"order_type": OrderType.MARKET, "post_only": True}, "INVALID_ORDER"),
        ({"quantity": Decimal("0.001")}, "MIN_NOTIONAL"),
    ],
)
async def test_what_cannot_be_sent_is_denied(changes: dict[str, object], code: str) -> None:
    async with open_rig() as rig:
        cloid = rig.submit(evolve(rig.order(), **changes))
        await later(1)
        assert rig.last(OrderDenied).code == code
        assert rig.now(cloid).status is OrderStatus.DENIED
        assert rig.names() == ["denied"]
        assert rig.entry.sent == []
        assert rig.engine.stats()["denials"] == {code: 1}


@pytest.mark.parametrize(
    "changes",
    [
        {"quantity": Decimal("NaN")},
        {"quantity": Decimal("1e40")},
        {"quantity": None},
        {"quantity": 1.0},
        {"price": Decimal("Infinity")},
        {"side": "buy"},
        {"post_only": None},
        {"instrument_id": ""},
    ],
)
async def test_what_could_not_be_journalled_goes_no_further(changes: dict[str, object]) -> None:
    async with open_rig() as rig:
        before = rig.log.stats().written_sequence
        cloid = rig.submit(evolve(rig.order(), **changes))
        await later(1)
        assert rig.cache.order(cloid) is None
        assert rig.log.stats().written_sequence == before
        assert (rig.names(), rig.entry.sent) == ([], [])


async def test_a_market_order_without_a_market_is_denied() -> None:
    async with open_rig() as rig:
        rig.cache.put_book(BTC, type(rig.cache.book(ETH))(BTC))
        rig.submit(order_type=OrderType.MARKET, price=None)
        assert rig.last(OrderDenied).code == "NO_MARKET_PRICE"


async def test_delisted_instruments_are_denied() -> None:
    async with open_rig() as rig:
        rig.cache.add_instrument(evolve(rig.cache.instrument(BTC), delisted=True))
        rig.submit()
        assert rig.last(OrderDenied).code == "DELISTED"


async def test_risk_has_the_last_word() -> None:
    async with open_rig(risk=open_risk(max_order_notional=Decimal(50))) as rig:
        rig.submit()
        denied = rig.last(OrderDenied)
        assert denied.code == "MAX_ORDER_NOTIONAL"
        assert type(denied.code) is str


async def test_stale_market_data_stops_all_but_what_reduces() -> None:
    async with open_rig() as rig:
        rig.state(BTC="0")
        resting = rig.submit()
        await later(1)
        rig.fill(resting, "t0", "0.5")
        rig.stale.add(BTC)
        denied = rig.submit()
        assert rig.last(OrderDenied).code == "STALE_MARKET_DATA"
        reducing = rig.submit(side=Side.SELL, quantity="0.5", reduce_only=True)
        rig.cancel(resting)
        await later(1)
        assert rig.now(denied).status is OrderStatus.DENIED
        assert rig.now(reducing).status is OrderStatus.ACCEPTED
        assert rig.now(resting).status is OrderStatus.CANCELED


async def test_no_order_without_a_private_link() -> None:
    async with open_rig() as rig:
        rig.down.add(ACCOUNT)
        rig.submit(reduce_only=True)
        assert rig.last(OrderDenied).code == "LINK_DOWN"


async def test_no_cancel_without_a_private_link_and_nothing_journalled() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(1)
        written = len(rig.entry.kinds())
        rig.down.add(ACCOUNT)
        rig.cancel(cloid)
        await later(1)
        assert rig.last(OrderPendingRejected).code == "LINK_DOWN"
        assert len(rig.entry.kinds()) == written
        assert rig.now(cloid).is_open
        rig.down.clear()
        rig.cancel(cloid)
        await later(1)
        assert rig.now(cloid).status is OrderStatus.CANCELED


async def test_the_gate_stops_also_what_is_queued_but_not_cancels() -> None:
    async with open_rig() as rig:
        resting = rig.submit()
        await later(1)
        queued = rig.submit()
        rig.engine.close_gate("stopping")
        refused = rig.submit()
        rig.cancel(resting)
        await later(1)
        assert [event.code for _, event in rig.events if isinstance(event, OrderDenied)] == [
            "GATE_CLOSED",
            "GATE_CLOSED",
        ]
        assert rig.now(queued).status is rig.now(refused).status is OrderStatus.DENIED
        assert rig.now(resting).status is OrderStatus.CANCELED
        assert rig.entry.kinds() == ["submit", "cancel"]
        rig.engine.open_gate()
        reopened = rig.submit()
        await later(1)
        assert rig.now(reopened).status is OrderStatus.ACCEPTED


async def test_the_kill_switch_stops_what_is_queued() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        rig.risk.kill("operator")
        await later(1)
        assert rig.now(cloid).status is OrderStatus.DENIED
        assert rig.last(OrderDenied).code == "TRADING_HALTED"
        assert rig.risk.state is TradingState.HALTED
        assert rig.entry.sent == []


async def test_a_full_queue_denies_and_a_slow_venue_delays_no_cancel() -> None:
    async with open_rig(settings=ExecutionSettings(submit_queue=2)) as rig:
        resting = rig.submit()
        await later(1)
        for _ in range(16):  # every slot for submissions is taken by one that gets no answer
            rig.entry.answers["submit"].append(never())
            rig.submit()
            await later(0.01)
        assert rig.entry.sending == 16
        queued = [rig.submit() for _ in range(3)]
        rig.cancel(resting)
        await later(0.1)
        assert rig.last(OrderDenied).code == "SUBMIT_QUEUE_FULL"
        assert rig.now(queued[2]).status is OrderStatus.DENIED
        assert rig.now(resting).status is OrderStatus.CANCELED
        assert rig.now(queued[0]).status is OrderStatus.INITIALIZED
        await later(10)
        assert rig.now(queued[1]).status is OrderStatus.ACCEPTED
        assert rig.entry.most_sending <= 17


async def test_outcomes_of_a_submission() -> None:
    async with open_rig() as rig:
        answers = rig.entry.answers["submit"]
        answers.append([Refused(code="MARGIN", text="Insufficient margin to place order.")])
        refused = rig.submit()
        await later(1)
        answers.append([NotSent(detail="no connection")])
        unsent = rig.submit()
        await later(1)
        answers.append([Ambiguous(detail="connection lost")])
        unknown = rig.submit()
        await later(0.1)
        assert rig.now(refused).status is rig.now(unsent).status is OrderStatus.REJECTED
        assert rig.now(refused).reason == "Insufficient margin to place order."
        assert rig.last(OrderRejected).code == "NOT_SENT"
        assert rig.now(unknown).status is OrderStatus.SUBMITTED
        assert rig.cache.orders_in_flight()
        assert rig.names(unknown) == ["initialized", "journalled", "submitted"]


async def test_one_request_may_have_different_outcomes() -> None:
    async with open_rig() as rig:
        rig.entry.answers["submit"].append(
            [Refused(code="TICK", text="tick"), Acknowledged(venue_order_id="v9")]
        )
        first, second = rig.submit(), rig.submit()
        await later(0.1)
        assert rig.now(first).status is OrderStatus.REJECTED
        assert rig.now(second).venue_order_id == "v9"


@pytest.mark.parametrize("fills_first", [True, False])
async def test_an_execution_is_completed_by_its_fills(fills_first: bool) -> None:
    executed = Executed(venue_order_id="v1", quantity=Decimal(1), average_price=Decimal("99.5"))
    async with open_rig() as rig:
        rig.entry.answers["submit"].append(after(0.2, executed))
        cloid = rig.submit()
        await later(0.1 if fills_first else 0.3)
        rig.fill(cloid, "t1", "0.4")
        rig.fill(cloid, "t2", "0.6")
        await later(0.3)
        assert rig.now(cloid).status is OrderStatus.FILLED
        assert rig.portfolio.quantity(ACCOUNT, BTC) == 1
        assert rig.queries.asked == []
        assert rig.names(cloid).count("filled") == 2


async def test_an_execution_without_fills_is_asked_about() -> None:
    executed = Executed(venue_order_id="v1", quantity=Decimal(1), average_price=Decimal(99))
    async with open_rig() as rig:
        rig.entry.answers["submit"].append([executed])
        cloid = rig.submit()
        await later(0.1)
        rig.queries.orders[cloid] = rig.report_of(cloid, OrderStatus.FILLED, remaining=Decimal(0))
        rig.queries.history_failure = LinkError("503")
        await later(30)
        assert len(rig.queries.asked) >= 3  # and the order stays what it is until the fills come
        assert rig.now(cloid).status is OrderStatus.ACCEPTED
        rig.fill(cloid, "t1", "1")
        asked = len(rig.queries.asked)
        await later(300)
        assert rig.now(cloid).status is OrderStatus.FILLED
        assert len(rig.queries.asked) == asked


@pytest.mark.parametrize("fills_first", [True, False])
async def test_the_rest_of_an_immediate_order_ends_it(fills_first: bool) -> None:
    executed = Executed(venue_order_id="v1", quantity=Decimal("0.4"), average_price=Decimal(100))
    async with open_rig() as rig:
        rig.entry.answers["submit"].append(after(0.2, executed))
        cloid = rig.submit(order_type=OrderType.MARKET, price=None)
        await later(0.1 if fills_first else 0.3)
        rig.fill(cloid, "t1", "0.4")
        await later(0.3)
        order = rig.now(cloid)
        assert (order.status, order.filled_quantity) == (OrderStatus.CANCELED, Decimal("0.4"))
        assert rig.names(cloid)[-1] == "canceled"


async def test_a_report_that_an_immediate_order_is_done_ends_it() -> None:
    async with open_rig() as rig:
        cloid = rig.submit(order_type=OrderType.MARKET, price=None)
        await later(0.1)
        rig.fill(cloid, "t1", "0.4")
        rig.report(cloid, OrderStatus.FILLED, remaining=Decimal("0.6"))
        assert rig.now(cloid).status is OrderStatus.CANCELED


async def test_an_order_still_queued_is_withdrawn() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        rig.cancel(cloid)
        await later(1)
        assert rig.names(cloid) == ["initialized", "canceled"]
        assert rig.entry.sent == []


async def test_an_order_in_flight_is_cancelled_by_its_own_id() -> None:
    async with open_rig() as rig:
        rig.entry.answers["submit"].append(after(5, Acknowledged(venue_order_id="v1")))
        cloid = rig.submit()
        await later(0.5)
        rig.cancel(cloid)
        rig.cancel(cloid)  # while one is under way, a second one is not sent
        await later(0.5)
        assert rig.entry.kinds() == ["submit", "cancel"]
        assert rig.now(cloid).status is OrderStatus.CANCELED
        await later(10)
        assert rig.now(cloid).status is OrderStatus.CANCELED


async def test_a_cancel_that_was_faster_than_its_order_is_repeated() -> None:
    async with open_rig() as rig:
        rig.entry.answers["submit"].append(after(3, Acknowledged(venue_order_id="v1")))
        rig.entry.answers["cancel"].append(
            [Refused(code="UNKNOWN_ORDER", text="Order was never placed, ...")]
        )
        cloid = rig.submit()
        await later(0.2)
        rig.cancel(cloid)
        await later(1)
        assert rig.now(cloid).pending is Pending.CANCEL
        assert rig.count(OrderPendingRejected) == 0
        await later(5)
        assert rig.entry.kinds() == ["submit", "cancel", "cancel"]
        assert rig.now(cloid).status is OrderStatus.CANCELED


async def test_a_refused_cancel_leaves_the_order_and_asks() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(0.1)
        rig.entry.answers["cancel"].append([Refused(code="UNKNOWN_ORDER", text="already filled")])
        rig.queries.orders[cloid] = rig.report_of(cloid, OrderStatus.FILLED, remaining=Decimal(0))
        rig.cancel(cloid)
        await later(2)
        assert rig.last(OrderPendingRejected).code == "UNKNOWN_ORDER"
        assert rig.now(cloid).is_open
        assert rig.queries.asked
        rig.fill(cloid, "t1", "1")
        assert rig.now(cloid).status is OrderStatus.FILLED


async def test_a_cancel_that_could_not_leave_is_refused() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(0.1)
        rig.entry.answers["cancel"].append([NotSent(detail="no connection")])
        rig.cancel(cloid)
        await later(0.1)
        rejected = rig.last(OrderPendingRejected)
        assert (rejected.code, rejected.pending) == ("NOT_SENT", Pending.CANCEL)
        assert rig.now(cloid).pending is None


async def test_cancelling_what_is_closed_or_unknown_does_nothing() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(0.1)
        rig.cancel(cloid)
        await later(0.1)
        before = len(rig.events)
        rig.cancel(cloid)
        rig.modify(cloid, price=Decimal(98))
        rig.cancel(rig.mint())
        await later(0.1)
        assert len(rig.events) == before


async def test_every_live_order_can_be_cancelled_at_once() -> None:
    async with open_rig(settings=ExecutionSettings(submit_queue=2)) as rig:
        cloids = []
        for _ in range(5):
            cloids.append(rig.submit())
            await later(0.1)
        rig.bus.send("order.cancel_all", CancelAllOrders())
        await later(1)
        assert [rig.now(cloid).status for cloid in cloids] == [OrderStatus.CANCELED] * 5


async def test_a_cancel_after_the_close_is_refused_aloud() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(0.1)
        rig.engine.close()
        rig.cancel(cloid)
        assert rig.last(OrderPendingRejected).code == "CLOSED"
        assert rig.now(cloid).is_open


async def test_an_id_used_twice_changes_nothing() -> None:
    async with open_rig() as rig:
        order = rig.order()
        rig.submit(order)
        await later(0.1)
        rig.submit(evolve(order, quantity=Decimal(5)))
        await later(0.1)
        assert rig.now(order.client_order_id).quantity == 1
        assert rig.names() == ACCEPTED
        assert rig.count(OrderInitialized) == 1


async def test_a_broken_disk_is_fatal_and_nothing_leaves() -> None:
    disk = MemoryDisk()
    disk_error = OSError("no space left on device")
    with pytest.RaisesGroup(
        pytest.RaisesExc(LogError, match="no space"),
        pytest.RaisesExc(JournalError, match="no space"),
        flatten_subgroups=True,
    ):
        async with open_rig(disk=disk) as rig:
            disk.fail(disk_error)
            cloid = rig.submit()
            try:
                await trio.sleep_forever()
            finally:
                assert rig.entry.sent == []
                assert rig.now(cloid).status is OrderStatus.INITIALIZED


async def test_a_flood_of_denials_does_not_fill_the_journal() -> None:
    async with open_rig(settings=ExecutionSettings(submit_queue=1)) as rig:
        rig.engine.close_gate("test")
        for _ in range(12_000):
            rig.submit()
        assert rig.count(OrderDenied) == 12_000
        assert rig.log.stats().high_water_bytes < 5_000_000
        await later(1)
        replayed = await load_state(rig.disk, closed_orders=10_000)
        assert differences(rig.journal.state, replayed) == []


async def test_closing_sends_what_is_queued_and_waits_for_its_outcome() -> None:
    async with open_rig() as rig:
        rig.entry.answers["submit"].append(after(2, Acknowledged(venue_order_id="v1")))
        cloid = rig.submit()
        rig.engine.close()
        late = rig.submit()
        assert rig.last(OrderDenied).code == "SUBMIT_QUEUE_FULL"
        await later(3)
        assert rig.now(cloid).status is OrderStatus.ACCEPTED
        assert rig.now(late).status is OrderStatus.DENIED


async def test_a_send_cut_short_leaves_the_order_in_flight() -> None:
    async with open_rig() as rig:
        rig.entry.answers["submit"].append(never())
        cloid = rig.submit()
        await later(1)
    assert rig.now(cloid).status is OrderStatus.SUBMITTED


async def test_a_cancel_all_command_is_narrowed() -> None:
    async with open_rig() as rig:
        bitcoin, ether = rig.submit(), rig.submit(instrument_id=ETH)
        await later(0.1)
        command = CancelAllOrders(strategy_id=MAKER, instrument_id=BTC)
        rig.bus.send("order.cancel_all", command)
        await later(0.1)
        assert rig.now(bitcoin).status is OrderStatus.CANCELED
        assert rig.now(ether).is_open


async def test_a_request_overtaken_by_the_end_of_its_order_is_not_sent() -> None:
    async with open_rig() as rig:
        cancelled, modified = rig.submit(), rig.submit()
        await later(0.1)
        rig.cancel(cancelled)
        rig.modify(modified, price=Decimal(98))
        rig.fill(cancelled, "t1", "1")
        rig.fill(modified, "t2", "1", venue_order_id=VenueOrderId("v2"))
        await later(1)
        assert rig.entry.kinds() == ["submit"]
        assert rig.now(cancelled).status is rig.now(modified).status is OrderStatus.FILLED


async def test_a_modification_decided_while_it_waited_is_not_sent() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(0.1)
        rig.modify(cloid, price=Decimal(98))
        rig.report(
            cloid, OrderStatus.ACCEPTED, venue_order_id=VenueOrderId("v5"), price=Decimal(98)
        )
        await later(1)
        assert rig.entry.kinds() == ["submit"]
        assert (rig.now(cloid).price, rig.now(cloid).pending) == (Decimal(98), None)


async def test_too_many_modifications_are_refused_aloud() -> None:
    async with open_rig(settings=ExecutionSettings(submit_queue=1)) as rig:
        cloids = []
        for _ in range(2):
            cloids.append(rig.submit())
            await later(0.1)
        for cloid in cloids:
            rig.modify(cloid, price=Decimal(98))
        assert rig.last(OrderPendingRejected).code == "MODIFY_QUEUE_FULL"
        await later(1)
        assert [rig.now(cloid).price for cloid in cloids] == [Decimal(98), Decimal(99)]


async def test_an_early_cancel_is_forgotten_when_the_order_is_refused() -> None:
    async with open_rig() as rig:
        rig.entry.answers["submit"].append(after(3, Refused(code="MARGIN", text="no margin")))
        rig.entry.answers["cancel"].append([Refused(code="UNKNOWN_ORDER", text="never placed")])
        cloid = rig.submit()
        await later(0.2)
        rig.cancel(cloid)
        await later(10)
        assert rig.now(cloid).status is OrderStatus.REJECTED
        assert rig.entry.kinds() == ["submit", "cancel"]


async def test_a_market_order_is_priced_from_the_quote_where_there_is_no_book() -> None:
    async with open_rig() as rig:
        rig.cache.put_book(BTC, type(rig.cache.book(ETH))(BTC))
        rig.cache.put_quote(
            Quote(
                instrument_id=BTC,
                bid_price=Decimal("199.9"),
                bid_quantity=Decimal(1),
                ask_price=Decimal("200"),
                ask_quantity=Decimal(1),
                ts_event_ns=1,
                ts_recv_ns=1,
            )
        )
        buy = rig.submit(order_type=OrderType.MARKET, price=None)
        sell = rig.submit(side=Side.SELL, order_type=OrderType.MARKET, price=None)
        assert rig.now(buy).price == Decimal("202.0")
        assert rig.now(sell).price == Decimal("198.0")


async def test_an_order_the_venue_cannot_express_is_denied_alone() -> None:
    async with open_rig() as rig:
        good, bad = rig.submit(), rig.submit()
        rig.entry.inexpressible.add(bad)
        await later(1)
        assert rig.names(good) == ACCEPTED
        assert rig.names(bad) == ["initialized", "denied"]
        assert "no words" in rig.now(bad).reason


async def test_a_change_the_venue_cannot_express_leaves_the_order_as_it_was() -> None:
    async with open_rig() as rig:
        cloid = rig.submit()
        await later(1)
        rig.entry.inexpressible.add(cloid)
        rig.modify(cloid, price=Decimal(98))
        await later(1)
        assert rig.names(cloid)[-2:] == ["pending_modify", "modify_rejected"]
        rig.cancel(cloid)
        await later(1)
        assert rig.names(cloid)[-2:] == ["pending_cancel", "cancel_rejected"]
        assert rig.now(cloid).status is OrderStatus.ACCEPTED
        rig.entry.inexpressible.clear()
        rig.cancel(cloid)
        await later(1)
        assert rig.now(cloid).status is OrderStatus.CANCELED
