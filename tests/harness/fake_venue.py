"""A venue behind the venue port for tests of the endpoint task: one JSON object a message.

`{"trade": n}` is a trade, `{"book": n}` a snapshot, `{"report": n}` an order report, `{"pong": 1}`
a pong, `{"reply": n}` an answer, `{"new": word}` a trade with a notice; anything else is a problem.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from tests.harness.unasked_entry import UnaskedEntry
from zq_daemon.errors import LinkError
from zq_daemon.model.account import Account
from zq_daemon.model.ids import (
    AccountId,
    ClientOrderId,
    InstrumentId,
    TradeId,
    Venue,
    VenueOrderId,
)
from zq_daemon.model.instrument import Instrument
from zq_daemon.model.market import BookLevel, BookSnapshot, Levels, Side, Trade
from zq_daemon.model.report import AccountReport, FillHistory, OrderReport
from zq_daemon.venue.interface import (
    ClockSkew,
    Credentials,
    Received,
    Reply,
    Sender,
    StreamKind,
)

BTC = InstrumentId("fake.BTC")


def trade(number: int, ts_ns: int = 0) -> Trade:
    return Trade(
        instrument_id=BTC,
        price=Decimal(100 + number),
        quantity=Decimal(1),
        aggressor=Side.BUY,
        trade_id=TradeId(str(number)),
        ts_event_ns=ts_ns,
        ts_recv_ns=ts_ns,
    )


def book(number: int, ts_ns: int = 0) -> BookSnapshot:
    return BookSnapshot(
        instrument_id=BTC,
        bids=Levels.of([BookLevel(Decimal(number), Decimal(1))]),
        asks=Levels.of([BookLevel(Decimal(number + 1), Decimal(1))]),
        ts_event_ns=ts_ns,
        ts_recv_ns=ts_ns,
    )


class FakeSession:
    def __init__(self, streams: Sequence[str]) -> None:
        self._streams = streams

    def opening(self) -> Sequence[str]:
        return [json.dumps({"subscribe": stream}) for stream in self._streams]

    def receive(self, message: str | bytes, ts_recv_ns: int) -> Received:
        try:
            content = json.loads(message)
        except ValueError:
            return Received(problem="not JSON")
        match content:
            case {"trade": int(number)}:
                return Received(market=(trade(number, ts_recv_ns),))
            case {"book": int(number)}:
                return Received(market=(book(number, ts_recv_ns),))
            case {"pong": _}:
                return Received(pong=True)
            case {"reply": int(number)}:
                return Received(replies=(Reply(post_id=number, body="ok"),))
            case {"new": str(word)}:
                return Received(market=(trade(0, ts_recv_ns),), notice=f"new word {word}")
            case {"subscribed": str(stream)}:
                return Received(subscribed=(stream,))
        return Received(problem=f"unknown message {str(content)[:40]}")

    def ping(self) -> str:
        return json.dumps({"ping": 1})


class FakeEntry(UnaskedEntry):
    def __init__(self) -> None:
        self.log: list[str] = []

    def resume(self, last_nonce: int) -> None:
        self.log.append(f"resume {last_nonce}")

    def attach(self, sender: Sender) -> None:
        self.log.append("attach")

    def detach(self, sender: Sender) -> None:
        self.log.append("detach")

    def resolve(self, reply: Reply) -> None:
        self.log.append(f"reply {reply.post_id}")


class FakeVenue:
    """An adapter whose private stream is called `orders`; *account_errors* fail its next loads."""

    def __init__(self) -> None:
        self.venue = Venue("fake")
        self.account_id: AccountId | None = AccountId("fake.me")
        self.order_entry: FakeEntry | None = FakeEntry()
        self.market_slippage_bps = 100
        self.budgets: Mapping[str, Any] = {}
        self.account_errors: list[LinkError] = []
        self.loads = 0

    async def load_instruments(self) -> Sequence[Instrument]:
        return ()

    async def check_credentials(self) -> Credentials | None:
        return None

    async def measure_clock(self) -> ClockSkew:
        return ClockSkew(ahead_ns=0, error_ns=0)

    async def actions_left(self) -> int | None:
        return None

    async def load_account(self) -> AccountReport:
        self.loads += 1
        if self.account_errors:
            raise self.account_errors.pop()
        account = Account(
            account_id=AccountId("fake.me"),
            balances=(),
            equity=Decimal(0),
            margin_used=Decimal(0),
            ts_event_ns=0,
            ts_recv_ns=0,
        )
        return AccountReport(account=account, positions=(), open_orders=())

    async def load_fills(self, since_ns: int) -> FillHistory:
        return FillHistory(fills=(), complete=True)

    async def query_order(
        self, client_order_id: ClientOrderId, venue_order_id: VenueOrderId | None = None
    ) -> OrderReport | None:
        return None

    def session(self, streams: Sequence[str]) -> FakeSession:
        return FakeSession(streams)

    def coverage(self, streams: Sequence[str]) -> Sequence[tuple[StreamKind, InstrumentId]]:
        return (("trade", BTC),) if "trades" in streams else ()

    def is_private(self, streams: Sequence[str]) -> bool:
        return "orders" in streams

    async def aclose(self) -> None:
        return
