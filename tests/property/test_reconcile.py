"""Any two sides of an account: what is found to differ is what differs, and nothing else."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from zq_daemon.core.reconcile import (
    HALF,
    BalanceDifference,
    DeniedOrder,
    Difference,
    EndedOrder,
    ExternalOrder,
    LateFills,
    LocalSide,
    MissingFill,
    MissingOrder,
    PositionDifference,
    Remedy,
    RisenOrder,
    UnconfirmedOrder,
    compare,
    compare_status,
    late_quantity,
    remedy,
)
from zq_daemon.model.account import Account, Balance
from zq_daemon.model.fill import Fill, Liquidity
from zq_daemon.model.ids import (
    AccountId,
    ClientOrderId,
    InstrumentId,
    StrategyId,
    TradeId,
    VenueOrderId,
    client_order_id,
)
from zq_daemon.model.market import Side
from zq_daemon.model.order import Order, OrderStatus, OrderType, Pending
from zq_daemon.model.position import Position
from zq_daemon.model.report import AccountReport, OrderReport, PositionReport

ACCOUNT = AccountId("0xacc")
STEP = Decimal("0.001")
KNOWN = [InstrumentId(f"hl.{name}") for name in "ABC"]
UNKNOWN = InstrumentId("hl.X")
STATED_NS = 1_000

quantities = st.integers(-5, 5).map(lambda n: n * STEP)
holdings = st.dictionaries(st.sampled_from([*KNOWN, UNKNOWN]), quantities, max_size=4)
statuses = st.sampled_from(
    [OrderStatus.SUBMITTED, OrderStatus.ACCEPTED, OrderStatus.CANCELED, OrderStatus.FILLED]
)


def order(number: int, status: OrderStatus = OrderStatus.ACCEPTED, **changes: Any) -> Order:
    ids = () if status is OrderStatus.SUBMITTED else (VenueOrderId(f"v{number}"),)
    terms: dict[str, Any] = {
        "client_order_id": client_order_id(1, number),
        "strategy_id": StrategyId("maker"),
        "account_id": ACCOUNT,
        "instrument_id": KNOWN[0],
        "side": Side.BUY,
        "order_type": OrderType.LIMIT,
        "quantity": Decimal(2),
        "price": Decimal(100),
        "status": status,
        "venue_order_ids": ids,
        "venue_order_id": ids[-1] if ids else None,
    }
    return Order(**terms | changes)


def report(number: int, remaining: str = "2", **changes: Any) -> OrderReport:
    terms: dict[str, Any] = {
        "account_id": ACCOUNT,
        "instrument_id": KNOWN[0],
        "client_order_id": client_order_id(1, number),
        "venue_order_id": VenueOrderId(f"v{number}"),
        "side": Side.BUY,
        "price": Decimal(100),
        "quantity": Decimal(2),
        "remaining": Decimal(remaining),
        "status": OrderStatus.ACCEPTED,
        "reason": "open",
        "ts_event_ns": 0,
        "ts_recv_ns": 0,
    }
    return OrderReport(**terms | changes)


def statement(
    positions: dict[InstrumentId, Decimal] | None = None,
    open_orders: tuple[OrderReport, ...] = (),
    balances: tuple[Balance, ...] = (),
    ts_ns: int = STATED_NS,
) -> AccountReport:
    held = tuple(
        PositionReport(
            account_id=ACCOUNT,
            instrument_id=instrument_id,
            quantity=quantity,
            average_entry_price=None,
            ts_event_ns=ts_ns,
            ts_recv_ns=ts_ns,
        )
        for instrument_id, quantity in (positions or {}).items()
    )
    return AccountReport(account=account(balances, ts_ns), positions=held, open_orders=open_orders)


def account(balances: tuple[Balance, ...] = (), ts_ns: int = STATED_NS) -> Account:
    return Account(
        account_id=ACCOUNT,
        balances=balances,
        equity=Decimal(0),
        margin_used=Decimal(0),
        ts_event_ns=ts_ns,
        ts_recv_ns=ts_ns,
    )


def local(
    orders: tuple[Order, ...] = (),
    positions: dict[InstrumentId, Decimal] | None = None,
    *,
    moved_ns: int = 0,
    recent: frozenset[ClientOrderId] = frozenset(),
    known: Account | None = None,
) -> LocalSide:
    held = [
        Position(account_id=ACCOUNT, instrument_id=each, quantity=quantity, ts_last_ns=moved_ns)
        for each, quantity in (positions or {}).items()
    ]
    return LocalSide(
        open_orders=[each for each in orders if each.is_open],
        listed={VenueOrderId(f"v{int(each.client_order_id[18:], 16)}"): each for each in orders},
        recent=recent,
        positions=held,
        account=known,
        steps=dict.fromkeys(KNOWN, STEP),
    )


def positions_of(found: tuple[Difference, ...]) -> dict[InstrumentId, PositionDifference]:
    return {each.instrument_id: each for each in found if isinstance(each, PositionDifference)}


@given(holdings, holdings, st.sampled_from([Decimal(0), HALF, Decimal(1), Decimal(3)]))
def test_positions_differ_where_they_do_by_more_than_is_tolerated(
    ours: dict[InstrumentId, Decimal], theirs: dict[InstrumentId, Decimal], tolerance: Decimal
) -> None:
    found = positions_of(compare(local(positions=ours), statement(theirs), tolerance))
    for each in KNOWN:
        amount = theirs.get(each, Decimal(0)) - ours.get(each, Decimal(0))
        if not amount:
            assert each not in found
            continue
        assert found[each].amount == amount
        assert found[each].is_tolerated is (abs(amount) <= tolerance * STEP)
        assert not found[each].is_newer
    assert UNKNOWN not in found


@given(holdings, holdings)
def test_what_moved_after_the_statement_is_not_overruled(
    ours: dict[InstrumentId, Decimal], theirs: dict[InstrumentId, Decimal]
) -> None:
    side = local(positions=ours, moved_ns=STATED_NS + 1)
    for each in positions_of(compare(side, statement(theirs), HALF)).values():
        assert each.is_newer is (each.instrument_id in ours)
        assert (remedy(each) is Remedy.WAIT) is each.is_newer


@given(holdings)
def test_what_is_the_same_differs_in_nothing(held: dict[InstrumentId, Decimal]) -> None:
    orders = tuple(order(number) for number in range(3))
    reports = tuple(report(number) for number in range(3))
    balances = (Balance(currency="USDC", total=Decimal(5), free=Decimal(1)),)
    side = local(orders, held, known=account(balances, STATED_NS - 1))
    assert compare(side, statement(held, reports, balances), HALF) == ()


@given(st.lists(statuses, max_size=6), st.sets(st.integers(0, 9), max_size=6))
def test_each_order_is_told_as_what_it_is_once(ours: list[OrderStatus], listed: set[int]) -> None:
    orders = tuple(order(number, status) for number, status in enumerate(ours))
    found = compare(local(orders), statement(open_orders=tuple(map(report, listed))), HALF)
    expected: set[tuple[type, int]] = {
        (ExternalOrder, number) for number in listed if number >= len(ours)
    }
    for number, status in enumerate(ours):
        match status, number in listed:
            case OrderStatus.SUBMITTED, True:
                expected.add((UnconfirmedOrder, number))
            case ((OrderStatus.CANCELED | OrderStatus.FILLED), True):
                expected.add((RisenOrder, number))
            case OrderStatus.ACCEPTED, False:
                expected.add((MissingOrder, number))
    assert {(type(each), _number(each)) for each in found} == expected
    assert len(found) == len(expected)


def _number(found: Difference) -> int:
    named = found.report if isinstance(found, ExternalOrder) else found.order  # type: ignore[union-attr]
    return int(named.client_order_id[18:], 16)  # type: ignore[union-attr, index]


@given(st.integers(0, 4), st.integers(0, 4))
def test_fills_are_late_where_less_rests_than_we_know(filled: int, remaining: int) -> None:
    resting = order(1, quantity=Decimal(4), filled_quantity=Decimal(filled))
    listed = report(1, str(remaining), quantity=Decimal(4))
    found = compare(local((resting,)), statement(open_orders=(listed,)), HALF)
    late = [each.quantity for each in found if isinstance(each, LateFills)]
    missing = 4 - filled - remaining
    assert late == ([Decimal(missing)] if missing > 0 else [])
    for changes in ({"reduce_only": True}, {"parent_id": client_order_id(1, 9)}):
        cut = local((evolve(resting, **changes),))
        assert compare(cut, statement(open_orders=(listed,)), HALF) == ()


@given(st.integers(0, 4), st.integers(0, 4))
def test_no_more_is_late_than_the_id_was_filled_by_its_own_account(own: int, left: int) -> None:
    """Other terms than we know explain the rest of it, and no fill does."""
    resting = order(1, quantity=Decimal(4))
    told = late_quantity(resting, report(1, str(left), quantity=Decimal(own + left)))
    assert told == max(min(own, 4 - left), 0)
    replaced = evolve(resting, venue_order_ids=(VenueOrderId("v1"), VenueOrderId("v9")))
    changing = evolve(resting, pending=Pending.MODIFY)
    for each in (replaced, changing):
        assert late_quantity(each, report(1, "0", quantity=Decimal(4))) == 0


def test_a_spent_listing_and_an_unknown_coin_are_nothing() -> None:
    listed = (report(1, "0"), report(2, instrument_id=UNKNOWN))
    assert compare(local(), statement(open_orders=listed), HALF) == ()
    ended = order(3, OrderStatus.CANCELED)
    assert compare(local((ended,)), statement(open_orders=(report(3, "0"),)), HALF) == ()


def test_recent_orders_are_said_to_be() -> None:
    orders = (order(1), order(2))
    recent = frozenset({orders[0].client_order_id})
    found = compare(local(orders, recent=recent), statement(), HALF)
    assert [each.is_recent for each in found if isinstance(each, MissingOrder)] == [True, False]


def test_balances_are_replaced_by_newer_ones_only() -> None:
    old = (Balance(currency="USDC", total=Decimal(5), free=Decimal(5)),)
    new = (
        Balance(currency="USDC", total=Decimal(6), free=Decimal(1)),
        Balance(currency="HYPE", total=Decimal(1), free=Decimal(1), is_spot=True),
    )
    found = compare(local(known=account(old, STATED_NS)), statement(balances=new), HALF)
    assert found == (
        BalanceDifference(currency="HYPE", is_spot=True, ours=Decimal(0), stated=Decimal(1)),
        BalanceDifference(currency="USDC", is_spot=False, ours=Decimal(5), stated=Decimal(6)),
    )
    assert {remedy(each) for each in found} == {Remedy.REPLACE}
    newer = local(known=account(old, STATED_NS + 1))
    assert compare(newer, statement(balances=new), HALF) == ()
    assert compare(local(), statement(balances=new), HALF) == ()


def test_a_status_says_what_differs() -> None:
    resting, sent = order(1), order(2, OrderStatus.SUBMITTED)
    assert compare_status(resting, report(1)) is None
    for status, done in (
        (OrderStatus.FILLED, Remedy.FETCH_FILLS),
        (OrderStatus.CANCELED, Remedy.END),
        (OrderStatus.EXPIRED, Remedy.END),
    ):
        found = compare_status(resting, report(1, status=status))
        assert isinstance(found, EndedOrder)
        assert remedy(found) is done
    assert isinstance(compare_status(sent, report(2)), UnconfirmedOrder)
    denied = compare_status(sent, None)
    assert denied == DeniedOrder(order=sent)
    assert remedy(DeniedOrder(order=sent)) is Remedy.ASK  # never resent, never ended by one denial


def test_every_difference_has_its_remedy() -> None:
    fill = Fill(
        trade_id=TradeId("t"),
        client_order_id=None,
        venue_order_id=VenueOrderId("v"),
        account_id=ACCOUNT,
        instrument_id=KNOWN[0],
        side=Side.BUY,
        price=Decimal(1),
        quantity=Decimal(1),
        fee=Decimal(0),
        fee_currency="USDC",
        liquidity=Liquidity.MAKER,
        ts_event_ns=0,
        ts_recv_ns=0,
    )
    position = PositionDifference(instrument_id=KNOWN[0], ours=Decimal(0), stated=Decimal(1))
    told: dict[Difference, Remedy] = {
        ExternalOrder(report=report(1)): Remedy.ADOPT,
        UnconfirmedOrder(order=order(1), report=report(1)): Remedy.CONFIRM,
        RisenOrder(order=order(1), report=report(1)): Remedy.REOPEN,
        MissingOrder(order=order(1), is_recent=False): Remedy.ASK,
        LateFills(order=order(1), report=report(1)): Remedy.FETCH_FILLS,
        MissingFill(fill=fill, order=None): Remedy.BOOK,
        position: Remedy.TAKE_OVER,
        evolve(position, is_tolerated=True): Remedy.TOLERATE,
    }
    for each, done in told.items():
        assert remedy(each, external=Remedy.ADOPT) is done
