"""Whether a daemon and its exchange agree, to the last digit; and whether it kept its rules.

The exchange is asked directly, the daemon over its control socket, the journal is read from the
disk. `wait_agreement` waits for a moment in which nothing moves; `audit` is about everything that
ever happened in the state folder. Everything that is wrong is told at once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import aclosing
from decimal import Decimal
from pathlib import Path
from typing import Any

import trio
from attrs import frozen

from tests.harness.floor import SPOT, Floor
from zq_daemon.control.client import request
from zq_daemon.journal import codec
from zq_daemon.journal.read import read_journal
from zq_daemon.journal.record import ExternalFill, Intent
from zq_daemon.model.event import FundingPaid, OrderFilled
from zq_daemon.model.fill import Fill
from zq_daemon.ports.disk import SystemDisk

_MOST = 10_000
_OPENS_WITH = Decimal(100_000)
_PAIRS = {"HYPE": SPOT, "PURR": "PURR/USDC"}
_SIDES = {"B": "buy", "A": "sell"}
_NEVER_THERE = ("denied", "rejected", "expired")

Row = tuple[Any, ...]


@frozen(kw_only=True)
class Venue:
    """What the exchange has. Orders: by client order id; fills by trade id; positions by coin.

    Fees and the balances of the spot wallet (total and free) are by currency; *cash* is what the
    contracts' wallet would hold if everything had been opened at 0, and *funding* what came of it.
    """

    orders: Mapping[str, Row]
    statuses: Mapping[str, str]
    fills: Mapping[str, Row]
    positions: Mapping[str, Decimal]
    fees: Mapping[str, Decimal]
    balances: Mapping[str, Row]
    cash: Decimal
    funding: Mapping[str, Decimal]


@frozen(kw_only=True)
class Told:
    """What the daemon says: live and closed orders by client order id, positions by coin.

    Fees and the balances of the spot wallet are by currency, funding by coin.
    """

    orders: Mapping[str, Row]
    unknown: tuple[str, ...]
    closed: Mapping[str, tuple[str, Decimal]]
    positions: Mapping[str, Decimal]
    fees: Mapping[str, Decimal]
    balances: Mapping[str, Row]
    funding: Mapping[str, Decimal]


@frozen(kw_only=True)
class Written:
    """What the journal holds."""

    intents: tuple[Intent, ...]
    fills: tuple[Fill, ...]
    fundings: tuple[FundingPaid, ...]
    external: int

    def submits(self) -> Counter[str]:
        """How often each order was to be sent."""
        return Counter(each.client_order_id for each in self.intents if each.kind == "submit")

    def cash(self, *, spot: bool) -> Decimal:
        """The quote currency that a wallet must have after all that was written."""
        paid = sum(
            each.notional * each.side.sign + (each.fee if each.fee_currency == "USDC" else 0)
            for each in self.fills
            if _is_spot(each.instrument_id) is spot
        )
        received = Decimal(0) if spot else sum(each.amount for each in self.fundings)
        return _OPENS_WITH - paid + received


async def look(floor: Floor) -> Venue:
    """The exchange's side, of one moment if nothing moves meanwhile."""
    orders, history, fills, state, spot = await floor.ask(
        *("frontendOpenOrders", "historicalOrders", "userFills"),
        *("clearinghouseState", "spotClearinghouseState"),
    )
    (payments,) = await floor.ask("userFunding", startTime=0)
    past = floor.past
    return venue_of(orders, past.orders(history), past.fills(fills), state, spot, payments)


def venue_of(orders: Any, history: Any, fills: Any, state: Any, spot: Any, payments: Any) -> Venue:
    """What the exchange answered to the queries that `look` asks."""
    statuses: dict[str, str] = {}
    for row in sorted(history, key=lambda row: int(row["order"]["oid"])):
        statuses[row["order"]["cloid"]] = row["status"]
    return Venue(
        orders={each["cloid"]: _venue_order(each) for each in orders},
        statuses=statuses,
        fills={f"{each['tid']}/{each['oid']}": _venue_fill(each) for each in fills},
        positions=_venue_positions(state, spot),
        fees=_summed((each["feeToken"], each["fee"]) for each in fills),
        balances={each["coin"]: _venue_balance(each) for each in spot["balances"]},
        cash=Decimal(state["marginSummary"]["totalRawUsd"]),
        funding=_summed((each["delta"]["coin"], each["delta"]["usdc"]) for each in payments),
    )


async def ask_daemon(floor: Floor) -> Told:
    """The daemon's side."""
    live = await request(floor.socket, "orders")
    closed = await request(floor.socket, "orders", kind="closed", limit=_MOST)
    assert len(closed["orders"]) < _MOST, "the daemon does not tell all of its orders any more"
    return told_of(live, closed, await request(floor.socket, "positions"))


def told_of(answer: Any, closed_answer: Any, positions: Any) -> Told:
    """What a daemon answered to the verbs that `ask_daemon` asks."""
    live, closed = answer["orders"], closed_answer["orders"]
    (account,) = positions["accounts"]
    return Told(
        orders={each["client_order_id"]: _told_order(each) for each in live},
        unknown=tuple(each["client_order_id"] for each in live if not _is_known(each)),
        closed={
            each["client_order_id"]: (each["status"], Decimal(each["filled"])) for each in closed
        },
        positions={
            each["instrument"].partition(".")[2]: Decimal(each["quantity"])
            for each in account["rows"]
            if Decimal(each["quantity"])
        },
        fees={currency: Decimal(fee) for currency, fee in account["fees"].items()},
        balances={
            each["currency"]: (Decimal(each["total"]), Decimal(each["free"]))
            for each in account["balances"]
            if each["wallet"] == "spot"
        },
        funding={
            each["instrument"].partition(".")[2]: Decimal(each["funding"])
            for each in account["rows"]
            if Decimal(each["funding"])
        },
    )


async def read_written(state: Path) -> Written:
    """The journal below the folder *state*, read beside whoever writes."""
    async with aclosing(read_journal(SystemDisk(state))) as batches:
        payloads = [payload async for batch in batches for payload in batch.payloads]
    return written_of(map(codec.decode, payloads))


def written_of(records: Iterable[Any]) -> Written:
    """What the records of a journal say."""
    intents: list[Intent] = []
    fills: list[Fill] = []
    fundings: list[FundingPaid] = []
    external = 0
    for record in records:
        match record:
            case Intent() as intent:
                intents.append(intent)
            case OrderFilled(fill=fill) if not fill.is_synthetic:
                fills.append(fill)
            case FundingPaid() as funding:
                fundings.append(funding)
            case ExternalFill():
                external += 1
            case _:
                pass
    return Written(
        intents=tuple(intents), fills=tuple(fills), fundings=tuple(fundings), external=external
    )


async def wait_agreement(floor: Floor, *, within_s: float = 30, money: bool = False) -> Venue:
    """Return when exchange and daemon say the same of everything, and the journal too.

    Of *money* (balances, funding, cash), which needs statements often and the stream of fundings.
    Only moments count in which the exchange says the same before and after. AssertionError, with
    what differs, when that does not come to pass in that time.
    """
    problems = ["nothing was compared: the exchange never stood still"]
    deadline = trio.current_time() + within_s
    while trio.current_time() < deadline:
        venue, told = await look(floor), await ask_daemon(floor)
        if venue == await look(floor):
            problems = list(differences(venue, told))
            problems += differences_of_money(venue, told) if money else ()
            if not problems:
                written = await read_written(floor.state)
                problems = list(fill_differences(venue, written))
                problems += differences_of_cash(venue, written) if money else ()
            if not problems:
                return venue
        await trio.sleep(0.05)
    raise AssertionError("daemon and exchange disagree:\n" + "\n".join(problems))


async def audit(floor: Floor) -> Written:
    """The rules that hold over all lives: nothing sent twice, nothing out of nowhere."""
    written, venue = await read_written(floor.state), await look(floor)
    problems = list(_broken_rules(floor, written, venue))
    assert not problems, "\n".join(problems)
    return written


def differences(venue: Venue, told: Told) -> Iterator[str]:
    """What the two sides say differently of orders, positions and fees."""
    yield from (f"not known: {cloid}: {told.orders[cloid]}" for cloid in told.unknown)
    yield from _compare("live order", venue.orders, told.orders)
    yield from _compare("position", venue.positions, told.positions)
    yield from _compare("fees in", venue.fees, told.fees)
    filled: dict[str, Decimal] = defaultdict(Decimal)
    for fill in venue.fills.values():
        filled[fill[0]] += fill[4]
    for cloid, (status, quantity) in told.closed.items():
        there = venue.statuses.get(cloid, "nowhere")
        if _ended_as(there) != _ended_as(status) and not _is_same_end(there, status, quantity):
            yield f"order {cloid}: {there} at the exchange, {status} for the daemon"
        if filled[cloid] != quantity:
            yield f"order {cloid}: filled {filled[cloid]} there, {quantity} says the daemon"
    for cloid in venue.statuses.keys() - told.closed.keys() - told.orders.keys():
        yield f"order {cloid}: {venue.statuses[cloid]} there, and not known to the daemon"


def differences_of_money(venue: Venue, told: Told) -> Iterator[str]:
    """The same of balances and fundings, which only statements tell."""
    yield from _compare("balance of", venue.balances, told.balances)
    yield from _compare("funding of", venue.funding, told.funding)


def differences_of_cash(venue: Venue, written: Written) -> Iterator[str]:
    """Whether what was paid adds up to what the wallets hold."""
    theirs = {"contracts": venue.cash, "spot": venue.balances["USDC"][0]}
    ours = {"contracts": written.cash(spot=False), "spot": written.cash(spot=True)}
    yield from _compare("cash of", theirs, ours)


def fill_differences(venue: Venue, written: Written) -> Iterator[str]:
    """Fills that one side has and the other has not, or has otherwise."""
    ours = [f"{each.trade_id}/{each.venue_order_id}" for each in written.fills]
    yield from (f"fill {key}: booked {n} times" for key, n in Counter(ours).items() if n > 1)
    rows = {key: _booked(each) for key, each in zip(ours, written.fills, strict=True)}
    yield from _compare("fill", venue.fills, rows)
    if written.external:
        yield f"{written.external} fills of ours were taken for somebody else's"


def _broken_rules(floor: Floor, written: Written, venue: Venue) -> Iterator[str]:
    submits, sent = written.submits(), Counter(floor.wire.sent())
    yield from (f"order {each}: {n} intents to send it" for each, n in submits.items() if n > 1)
    yield from (f"order {each}: sent {n} times" for each, n in sent.items() if n > 1)
    meant = {(each.nonce, each.client_order_id) for each in written.intents}
    for post in floor.wire.posts:
        for cloid in post.cloids:
            if (post.nonce, cloid) not in meant:
                yield f"order {cloid}: {post.kind} sent without an intent"
    for cloid in venue.statuses.keys() - submits.keys():
        yield f"order {cloid}: {venue.statuses[cloid]} at the exchange, and not in the journal"
    nonces = Counter(post.nonce for post in floor.wire.posts)
    yield from (f"nonce {each}: used {n} times" for each, n in nonces.items() if n > 1)


def _compare(what: str, venue: Mapping[str, Any], ours: Mapping[str, Any]) -> Iterator[str]:
    for key in sorted(venue.keys() | ours.keys()):
        if venue.get(key) != ours.get(key):
            yield f"{what} {key}: {venue.get(key)} at the exchange, {ours.get(key)} here"


def _venue_order(row: Mapping[str, Any]) -> Row:
    return (
        str(row["oid"]),
        row["coin"],
        _SIDES[row["side"]],
        Decimal(row["limitPx"]),
        Decimal(row["sz"]),
    )


def _venue_positions(state: Mapping[str, Any], spot: Mapping[str, Any]) -> Mapping[str, Decimal]:
    held = {
        each["position"]["coin"]: Decimal(each["position"]["szi"])
        for each in state["assetPositions"]
    }
    owned = {each["coin"]: Decimal(each["total"]) for each in spot["balances"]}
    return held | {pair: owned[token] for token, pair in _PAIRS.items() if owned.get(token)}


def _venue_balance(row: Mapping[str, Any]) -> Row:
    total = Decimal(row["total"])
    return total, total - Decimal(row["hold"])


def _summed(amounts: Iterable[tuple[str, str]]) -> Mapping[str, Decimal]:
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for name, amount in amounts:
        sums[name] += Decimal(amount)
    return dict(sums)


def _is_spot(instrument_id: str) -> bool:
    return instrument_id.partition(".")[2] in _PAIRS.values()


def _told_order(row: Mapping[str, Any]) -> Row:
    return (
        row["venue_order_id"],
        row["instrument"].partition(".")[2],
        row["side"],
        Decimal(row["price"]),
        Decimal(row["quantity"]) - Decimal(row["filled"]),
    )


def _is_known(row: Mapping[str, Any]) -> bool:
    return row["status"] in ("accepted", "partially_filled") and row["pending"] is None


def _venue_fill(row: Mapping[str, Any]) -> Row:
    return (
        row["cloid"],
        row["coin"],
        _SIDES[row["side"]],
        Decimal(row["px"]),
        Decimal(row["sz"]),
        Decimal(row["fee"]),
        row["feeToken"],
    )


def _booked(fill: Fill) -> Row:
    return (
        fill.client_order_id,
        fill.instrument_id.partition(".")[2],
        fill.side.value,
        fill.price,
        fill.quantity,
        fill.fee,
        fill.fee_currency,
    )


def _is_same_end(there: str, here: str, filled: Decimal) -> bool:
    """Whether two words mean one end.

    What was cut down is filled at the exchange by what it got; a replacement that is rejected has
    cost the order its life; what came and went unheard, without a fill, was nowhere.
    """
    cut_down = there == "filled" and filled > 0
    replaced = there.endswith("Rejected")
    unheard = there.lower().endswith("canceled") and not filled
    return (here == "canceled" and (cut_down or replaced)) or (here == "expired" and unheard)


def _ended_as(status: str) -> str:
    """One word for what both sides may say of an order that has ended."""
    if status in ("nowhere", *_NEVER_THERE) or status.endswith("Rejected"):
        return "never there"
    return "canceled" if status.lower().endswith("canceled") else status
