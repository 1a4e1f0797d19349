"""What strategies save: it comes back as it was, in the same run and in the next, or is refused."""

from __future__ import annotations

from collections import OrderedDict
from decimal import Decimal
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.service.execution_rig import BTC
from tests.service.strategy_rig import Rig, config
from zq_daemon.core.bus import Fault
from zq_daemon.errors import JournalError, StrategyError
from zq_daemon.strategy.base import Strategy
from zq_daemon.strategy.hosted import StrategyState
from zq_daemon.strategy.saved import MAX_BYTES, SavedState, pack, repack

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(-(2**63) + 1, 2**63 - 1), TEXT)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
STATES = st.dictionaries(TEXT, VALUES, max_size=4)


class Saver(Strategy):
    """Finds what was saved, and saves when it is told to."""

    def on_start(self) -> None:
        self.found = self.context.saved_state

    def on_trade(self, trade: Any) -> None:
        self.context.save_state(1, {"trade": trade.trade_id})


class Kind(IntEnum):
    ONE = 1


def running(former: Rig | None = None, name: str = "mine") -> Rig:
    rig = Rig(former)
    rig.load(config(Saver, name=name))
    rig.host.start()
    return rig


def test_the_next_run_finds_what_was_saved_last() -> None:
    rig = running()
    context = rig.strategy("mine").context
    assert rig.strategy("mine").found is context.saved_state is None
    context.save_state(1, {"level": 1})
    context.save_state(2, {"level": "2.50", "seen": [1, None, True, {"deep": "ü"}]})
    saved = SavedState(version=2, data={"level": "2.50", "seen": [1, None, True, {"deep": "ü"}]})
    assert context.saved_state == saved
    assert running(rig).strategy("mine").found == saved
    assert running(running(rig)).strategy("mine").found == saved
    assert running(rig, name="another").strategy("another").found is None


def test_a_record_names_strategy_and_time() -> None:
    rig = running()
    rig.strategy("mine").context.save_state(3, {"a": 1})
    (record,) = rig.saved
    assert (record.strategy_id, record.version, record.data) == ("mine", 3, {"a": 1})
    assert record.ts_event_ns == rig.clock.now_ns()


def test_only_changes_are_written() -> None:
    rig = running()
    context = rig.strategy("mine").context
    context.save_state(1, {"a": 1, "b": 2})
    context.save_state(1, {"b": 2, "a": 1})
    assert len(rig.saved) == 1
    context.save_state(2, {"a": 1, "b": 2})
    context.save_state(2, {"a": True, "b": 2})
    context.save_state(2, {"a": 1, "b": 2})
    assert len(rig.saved) == 4
    again = running(rig)
    again.strategy("mine").context.save_state(2, {"a": 1, "b": 2})
    assert again.saved == []


def test_nobody_can_change_what_is_saved() -> None:
    rig = running()
    context = rig.strategy("mine").context
    data = {"levels": [1]}
    context.save_state(1, data)
    data["levels"].append(2)
    context.saved_state.data["levels"].append(3)
    rig.saved[0].data["levels"].append(4)
    assert context.saved_state == SavedState(version=1, data={"levels": [1]})
    context.save_state(1, data)
    assert rig.saved[1].data == {"levels": [1, 2]}


@given(STATES, st.integers(0, 2**63 - 1))
def test_whatever_is_taken_comes_back_equal(data: dict[str, Any], version: int) -> None:
    packed = pack(version, data)
    assert packed.unpack() == SavedState(version=version, data=data)
    assert types_of(packed.data) == types_of(data)
    assert repack(version, packed.data) == packed


def types_of(value: Any) -> Any:
    """Equality takes True for 1."""
    if isinstance(value, dict):
        return {key: types_of(each) for key, each in value.items()}
    return [types_of(each) for each in value] if isinstance(value, list) else type(value)


def test_other_mappings_are_taken_as_dictionaries() -> None:
    assert pack(1, OrderedDict(b=OrderedDict(c=1))).data == {"b": {"c": 1}}


def nested(depth: int) -> dict[str, Any]:
    return {} if not depth else {"inner": nested(depth - 1)}


def endless() -> dict[str, Any]:
    data: dict[str, Any] = {}
    data["self"] = [data]
    return data


REFUSED: list[tuple[Any, str]] = [
    ({"price": Decimal("1.5")}, r"data\.price: .*Decimal cannot be saved: save str\(value\)"),
    ({"fills": [1, {"ema": 0.5}]}, r"data\.fills\[1\]\.ema: .*float .*repr\(value\)"),
    ({"a b": (1, 2)}, r'data\."a b": .*tuple .*save a list'),
    ({"ids": {1}}, r"data\.ids: .*set .*sorted list"),
    ({"raw": b"x"}, r"data\.raw: .*bytes .*hex"),
    ({"kind": Kind.ONE}, r"data\.kind: .*Kind cannot be saved: save what it is made of"),
    ({"x": object()}, r"data\.x: .*object"),
    ({"far": 1 << 63}, r"data\.far: an integer beyond 64 bits"),
    ({"far": -(1 << 63)}, r"data\.far: an integer beyond 64 bits"),
    ({"a": {1: 2}}, r"data\.a: the key 1 \(int\) is not text"),
    ({"a": ["\ud800"]}, r"data\.a\[0\]: .* is no Unicode text"),
    ({"a": {"\ud800": 1}}, r"data\.a: .* is no Unicode text"),
    ([1], r"data: expected a dictionary, got a value of type list"),
    (nested(32), r"data: nested deeper than 32"),
    (endless(), r"data: nested deeper than 32"),
    ({"text": "x" * MAX_BYTES}, rf"data: 655\d\d bytes as JSON; at most {MAX_BYTES}"),
]


@pytest.mark.parametrize(("data", "said"), REFUSED)
def test_what_is_refused_is_told_with_its_place(data: Any, said: str) -> None:
    rig = running()
    context = rig.strategy("mine").context
    context.save_state(1, {"kept": 1})
    with pytest.raises(StrategyError, match=f"^strategy mine: save_state: {said}"):
        context.save_state(1, data)
    assert context.saved_state == SavedState(version=1, data={"kept": 1})
    assert len(rig.saved) == 1


@pytest.mark.parametrize("version", [-1, True, "1", 1.0, None, 1 << 63])
def test_a_version_is_a_number(version: Any) -> None:
    with pytest.raises(StrategyError, match=r"version .*: expected an integer, 0 or more"):
        running().strategy("mine").context.save_state(version, {})


def test_the_largest_and_the_deepest_are_taken() -> None:
    largest = {"text": "x" * (MAX_BYTES - len('{"text":""}'))}
    assert len(pack(0, largest).payload) == MAX_BYTES
    assert pack(0, nested(31)).data == nested(31)


def test_saving_what_cannot_be_saved_is_the_strategys_fault() -> None:
    rig = running()
    rig.bus.subscribe(
        "market_data.trade.*",
        lambda _: rig.strategy("mine").context.save_state(1, {"x": 0.5}),
        owner="mine",
    )
    rig.publish_trade()
    assert rig.host.state("mine") is StrategyState.FAULTED
    assert "data.x" in str(rig.faults[0].error)


def test_a_journal_that_fails_is_the_daemons_fault() -> None:
    faults: list[Fault] = []

    class Broken(Rig):
        def _save(self, record: Any) -> None:
            raise JournalError("the disk is full")

        def _on_fault(self, fault: Fault) -> None:
            faults.append(fault)

    rig = Broken()
    rig.load(config(Saver, instruments=(BTC,)))
    rig.host.start()
    rig.publish_trade()
    assert [(fault.owner, fault.topic) for fault in faults] == [("daemon", "strategy.save")]
    assert rig.host.state("mine") is StrategyState.RUNNING
