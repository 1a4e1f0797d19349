"""Any split of a day into lives gives the day's P&L of one life, which is added up naively."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

from attrs import Factory, define, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness.day_lives import MINUTE_NS, DayLives
from tests.unit.test_portfolio import BTC, ETH
from zq_daemon.core.portfolio import NS_PER_DAY
from zq_daemon.model.ids import InstrumentId

IIDS = (BTC, ETH)


@define
class OneLife:
    """Every move of a mark is P&L of what is held then."""

    marks: dict[InstrumentId, Fraction]
    held: dict[InstrumentId, Fraction] = Factory(lambda: dict.fromkeys(IIDS, Fraction(0)))
    day_pnl: Fraction = Fraction(0)

    def mark(self, price: str, iid: InstrumentId) -> None:
        self.day_pnl += self.held[iid] * (Fraction(price) - self.marks[iid])
        self.marks[iid] = Fraction(price)

    def fill(self, quantity: str, price: str, fee: str, iid: InstrumentId) -> None:
        self.day_pnl += Fraction(quantity) * (self.marks[iid] - Fraction(price)) - Fraction(fee)
        self.held[iid] += Fraction(quantity)


@frozen
class Step:
    """What happens: *what*, with whatever of the rest it needs."""

    what: str
    iid: InstrumentId
    quantity: str
    price: str
    fee: str
    compact: bool


QUANTITIES = st.sampled_from(["1", "-1", "2", "-2", "0.003", "-7.5"])
PRICES = st.integers(1, 4_000).map(lambda cents: str(Decimal(cents) / 100))
STEPS = st.builds(
    Step,
    st.sampled_from(
        ["fill", "fill", "mark", "mark", "house", "minute", "crash", "crash", "adopt", "close"]
    ),
    st.sampled_from(IIDS),
    QUANTITIES,
    PRICES,
    st.sampled_from(["0", "0.01", "-0.002"]),
    st.booleans(),
)


@settings(max_examples=150)
@given(steps=st.lists(STEPS, max_size=40))
def test_any_split_of_a_day_into_lives_is_one_life(steps: list[Step]) -> None:
    lives, model = DayLives(), OneLife({iid: Fraction(10) for iid in IIDS})
    know_marks(lives, model)
    for step in steps:
        take(lives, model, step)
    know_marks(lives, model)
    assert Fraction(lives.day_pnl) == model.day_pnl


@settings(max_examples=100)
@given(steps=st.lists(STEPS, max_size=20), later=st.lists(STEPS, max_size=20), night=st.booleans())
def test_what_was_recorded_last_is_what_a_restart_goes_on_from(
    steps: list[Step], later: list[Step], night: bool
) -> None:
    lives, model = DayLives(), OneLife({iid: Fraction(10) for iid in IIDS})
    know_marks(lives, model)
    for step in steps:
        take(lives, model, step)
    know_marks(lives, model)
    lives.house()
    lives.keeper.write(lives.now_ns)
    lives.crash(away_ns=NS_PER_DAY if night else MINUTE_NS)
    if night:
        model.day_pnl = Fraction(0)
    assert Fraction(lives.day_pnl) == model.day_pnl
    for step in later:
        take(lives, model, step)
    know_marks(lives, model)
    assert Fraction(lives.day_pnl) == model.day_pnl


@settings(max_examples=100)
@given(steps=st.lists(STEPS, max_size=30), quantity=QUANTITIES, price=PRICES)
def test_a_crash_right_after_a_taking_over_is_off_by_the_marks_since_the_record(
    steps: list[Step], quantity: str, price: str
) -> None:
    lives, model = DayLives(), OneLife({iid: Fraction(10) for iid in IIDS})
    for step in (Step("fill", BTC, "1", "10", "0", False), *steps):
        take(lives, model, step)
    know_marks(lives, model)
    if not model.held[BTC]:
        take(lives, model, Step("fill", BTC, "1", "10", "0", False))
    lives.house(MINUTE_NS)
    recorded = model.marks[BTC]
    lives.mark(price)
    model.mark(price, BTC)
    lives.adopt(quantity, "33.3")
    off = (Fraction(quantity) - model.held[BTC]) * (model.marks[BTC] - recorded)
    lives.crash()
    know_marks(lives, model)
    assert Fraction(lives.day_pnl) == model.day_pnl + off


def know_marks(lives: DayLives, model: OneLife) -> None:
    """The market tells what it is at now, also to a new life."""
    for iid in IIDS:
        mark = model.marks[iid]
        lives.mark(str(Decimal(mark.numerator) / Decimal(mark.denominator)), iid)


def take(lives: DayLives, model: OneLife, step: Step) -> None:
    match step.what:
        case "fill":
            lives.fill(step.quantity, step.price, fee=step.fee, iid=step.iid)
            model.fill(step.quantity, step.price, step.fee, step.iid)
        case "close":
            held = lives.portfolio.positions()
            for each in held:
                if each.instrument_id == step.iid and each.quantity:
                    lives.fill(str(-each.quantity), step.price, iid=step.iid)
                    model.fill(str(-each.quantity), step.price, "0", step.iid)
        case "mark":
            lives.mark(step.price, step.iid)
            model.mark(step.price, step.iid)
        case "adopt":
            know_marks(lives, model)
            lives.adopt(step.quantity, step.price, iid=step.iid)
            model.held[step.iid] = Fraction(step.quantity)
            lives.house()  # what it is measured from now is written soon
        case "crash":
            lives.crash(compact=step.compact)
        case "minute":
            lives.house(MINUTE_NS)
        case _:
            lives.house()
