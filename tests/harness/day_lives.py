"""The day's P&L over several lives: what a daemon books and journals, and then reads again."""

from __future__ import annotations

from decimal import Decimal
from itertools import count
from typing import NamedTuple

from attrs import evolve

from tests.harness.journal_life import ListLog
from tests.unit.test_portfolio import ACCOUNT, BTC, fill, instrument, report
from tests.unit.test_risk import limits
from zq_daemon.core.portfolio import NS_PER_DAY, Portfolio
from zq_daemon.core.risk import RiskEngine
from zq_daemon.engine.day_keeper import DayKeeper
from zq_daemon.journal.checkpoint import decode_checkpoint, encode_checkpoint
from zq_daemon.journal.digest import differences
from zq_daemon.journal.files import checkpoint_name
from zq_daemon.journal.journal import Journal
from zq_daemon.journal.record import ExternalFill, StatementAdopted
from zq_daemon.journal.replay import replay
from zq_daemon.journal.state import JournalState, empty_state
from zq_daemon.model.event import TradingState
from zq_daemon.model.ids import InstrumentId, TradeId
from zq_daemon.model.market import MarkPrice
from zq_daemon.ports.clock import NS_PER_S

MINUTE_NS = 60 * NS_PER_S


class _Batch(NamedTuple):
    first_sequence: int
    payloads: list[bytes]


class DayLives:
    """One account, from noon on; what is not journalled is gone after `crash`."""

    def __init__(self, *, max_daily_loss: str | None = None) -> None:
        self.now_ns = 20_000 * NS_PER_DAY + NS_PER_DAY // 2
        self.log = ListLog()
        self._limits = limits(max_daily_loss=max_daily_loss)
        self._numbers = count(1)
        self._begin(empty_state(closed_orders=1))

    @property
    def portfolio(self) -> Portfolio:
        return self.journal.state.portfolio

    def crash(self, *, away_ns: int = 0, compact: bool = False) -> None:
        """The daemon ends here, and begins anew from its journal; no mark is known then."""
        before, sequence = self.journal.state, len(self.log.payloads)
        state = replay([_Batch(1, self.log.payloads)], closed_orders=1)
        assert differences(state, before) == []
        if compact:
            name = checkpoint_name(sequence)
            image = encode_checkpoint(state, sequence=sequence, closed_orders=1)
            kept = decode_checkpoint(name, image).checkpoint
            state = replay([], closed_orders=1, checkpoint=kept)
            assert differences(state, before) == []
        self.now_ns += away_ns
        self._begin(state)

    def mark(self, price: str, iid: InstrumentId = BTC) -> None:
        self.journal.state.cache.put_mark(
            MarkPrice(
                instrument_id=iid,
                mark_price=Decimal(price),
                oracle_price=None,
                funding_rate=None,
                open_interest=None,
                ts_event_ns=self.now_ns,
                ts_recv_ns=self.now_ns,
            )
        )

    def fill(self, quantity: str, price: str, *, fee: str = "0", iid: InstrumentId = BTC) -> None:
        self.journal.know(iid)
        made = fill(quantity, price, fee=fee, instrument=iid)
        made = evolve(made, trade_id=TradeId(f"t{next(self._numbers)}"))
        self.journal.write(ExternalFill(made))
        self.journal.state.seen.add(made)
        self.journal.state.cache.put_position(self.portfolio.on_fill(made, None))

    def adopt(self, quantity: str, entry: str, *, iid: InstrumentId = BTC) -> None:
        """The venue states another position than ours."""
        held = evolve(report(quantity, entry), instrument_id=iid)
        self.journal.write(
            StatementAdopted(
                account_id=ACCOUNT, positions=(held,), whole=False, reason="test", ts_event_ns=3
            )
        )
        self.journal.state.cache.put_position(self.portfolio.set_position(held))

    def house(self, after_ns: int = NS_PER_S // 10) -> bool:
        """Housekeeping, *after_ns*; whether the daily loss halted trading."""
        self.now_ns += after_ns
        halted = self.risk.on_pnl(self.now_ns, [ACCOUNT]) is not None
        if halted:
            self.keeper.write(self.now_ns)
        self.keeper.keep(self.now_ns)
        return halted

    def activate(self) -> None:
        """An operator's command."""
        self.risk.measure(self.now_ns, [ACCOUNT])
        self.risk.set_state(TradingState.ACTIVE, "operator")
        self.keeper.write(self.now_ns)

    @property
    def day_pnl(self) -> Decimal:
        return self.portfolio.day_pnl(ACCOUNT, self.now_ns)

    def _begin(self, state: JournalState) -> None:
        for iid in ("hyperliquid.BTC", "hyperliquid.ETH"):
            state.cache.add_instrument(instrument(InstrumentId(iid)))
        self.journal = Journal(self.log, state)
        self.risk = RiskEngine(state.cache, state.portfolio, self._limits)
        self.keeper = DayKeeper(self.journal, self.risk, [ACCOUNT])
        self.keeper.resume(self.now_ns)
        self.keeper.write(self.now_ns)
