"""Structuring any attrs class, as strategies do with their parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import Enum
from typing import Any, Literal

import pytest
from attrs import Factory, field, frozen, validators

from zq_daemon.config.load import parse_document
from zq_daemon.config.source import Source
from zq_daemon.config.structure import structure
from zq_daemon.errors import ConfigError


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@frozen
class Leg:
    weight: Decimal
    sides: tuple[Literal["buy", "sell"], ...] = ()


@frozen(kw_only=True)
class Params:
    fast: int = field(default=5, validator=validators.gt(1))
    slow: int = 20
    ratio: float = 0.5
    colour: Colour = Colour.RED
    note: str | None = None
    cap: Decimal | None = None
    window: list[int] = Factory(list)
    legs: Sequence[Leg] = ()
    weights: Mapping[str, Leg] = Factory(dict)
    free: Mapping[str, Any] = Factory(dict)
    api_token: str = field(default="abc", validator=validators.max_len(5))

    def __attrs_post_init__(self) -> None:
        if self.fast >= self.slow:
            raise ValueError("fast must be less than slow")


NOWHERE = Source(name="params")


def told(mapping: Any, source: Source = NOWHERE) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        structure(Params, mapping, source=source)
    return str(caught.value).splitlines()


def test_defaults_and_every_kind_of_type() -> None:
    assert structure(Params, {}, source=NOWHERE) == Params()
    found = structure(
        Params,
        {
            "ratio": 2,
            "colour": "blue",
            "note": "x",
            "cap": "0.10",
            "window": [1, 2],
            "legs": [{"weight": 1, "sides": ["buy"]}],
            "weights": {"a": {"weight": Decimal("0.5")}},
            "free": {"any": [1]},
        },
        source=NOWHERE,
    )
    assert found == Params(
        ratio=2.0,
        colour=Colour.BLUE,
        note="x",
        cap=Decimal("0.10"),
        window=[1, 2],
        legs=(Leg(Decimal(1), ("buy",)),),
        weights={"a": Leg(Decimal("0.5"))},
        free={"any": [1]},
    )


def test_python_values_of_a_program_are_taken_too() -> None:
    assert structure(Params, {"ratio": 0.25, "cap": None}, source=NOWHERE).ratio == 0.25


@pytest.mark.parametrize(
    ("mapping", "line"),
    [
        ({"fsat": 1}, "params: fsat: unknown key; did you mean 'fast'?"),
        ({"cap": 0.1}, 'params: cap: expected a number (or "off"), got 0.1'),
        ({"colour": "green"}, "params: colour: expected one of 'red', 'blue', got the string 'gre"),
        ({"window": "12"}, "params: window: expected an array, got the string '12'"),
        ({"weights": []}, "params: weights: expected a table, got an array"),
        ({"free": 3}, "params: free: expected a table, got 3"),
        ({"legs": [{}]}, "params: legs[0].weight: required key is missing"),
        (
            {"legs": [{"weight": 1, "sides": ["hold"]}]},
            "params: legs[0].sides[0]: expected one of 'buy', 'sell', got the string 'hold'",
        ),
        ({"weights": {"a b": {"weight": "x"}}}, 'params: weights."a b".weight: expected a number,'),
        ({"note": "y" * 100, "slow": 10**80}, "params: slow: "),
        ({"fast": 1}, "params: fast: 'fast' must be > 1: 1"),
        ({"fast": 30}, "params: fast: fast must be less than slow"),
        ({"api_token": "5ecret"}, "params: api_token: refused by its own check (values not shown)"),
        (5, "params: expected a table, got 5"),
    ],
)
def test_problems_without_a_file(mapping: Any, line: str) -> None:
    if mapping == {"note": "y" * 100, "slow": 10**80}:
        assert structure(Params, mapping, source=NOWHERE).slow == 10**80
        return
    assert told(mapping)[0].startswith(line)


def test_long_values_are_cut() -> None:
    (line,) = told({"fast": "y y" * 100})
    assert len(line) < 140
    assert line.endswith("...'")
    (line,) = told({"ratio": [], "window": [10**80, "x"]})[1:]
    assert line == "params: window[1]: expected a whole number, got the string 'x'"


def test_a_very_long_number_is_not_repeated() -> None:
    (line,) = told({"note": 10**80})
    assert line.endswith("got a very long number")


def test_problems_carry_the_line_of_the_file() -> None:
    document = parse_document(
        '[[strategies]]\nname = "a"\n[[strategies]]\nname = "b"\n'
        "[strategies.params]\nfast = true\nslwo = 3\n",
        "c.toml",
    )
    params = document.mapping["strategies"][1]["params"]
    assert told(params, document.source.at("strategies", 1, "params")) == [
        "c.toml:6: strategies[1].params.fast: expected a whole number, got true",
        "c.toml:7: strategies[1].params.slwo: unknown key; did you mean 'slow'?",
    ]


def test_a_missing_table_is_located_at_what_encloses_it() -> None:
    document = parse_document('\n[[strategies]]\nname = "a"\n', "c.toml")
    source = document.source.at("strategies", 0, "params")
    assert told({"x": 1}, source)[0].startswith("c.toml:2: strategies[0].params.x: ")


@frozen
class Unresolvable:
    value: Missing  # type: ignore[name-defined]  # noqa: F821


@frozen
class Unsupported:
    value: complex


@frozen
class Plain:
    limit: int

    def __attrs_post_init__(self) -> None:
        if self.limit < 0:
            raise ValueError


@frozen
class Spoken:
    limit: int

    def __attrs_post_init__(self) -> None:
        raise ValueError(f"limit {self.limit} is refused")


@pytest.mark.parametrize("cls", [Unresolvable, Unsupported])
def test_a_class_that_cannot_be_structured_is_named(cls: type) -> None:
    with pytest.raises(ConfigError, match=rf"^params: {cls.__name__} is badly annotated: "):
        structure(cls, {"value": 1}, source=NOWHERE)


def test_what_a_class_says_of_itself_is_told() -> None:
    with pytest.raises(ConfigError, match=r"^params: limit: limit 3 is refused$"):
        structure(Spoken, {"limit": 3}, source=NOWHERE)
    with pytest.raises(ConfigError, match=r"^params: ValueError$"):
        structure(Plain, {"limit": -1}, source=NOWHERE)


def test_a_rule_that_refuses_a_secret_says_nothing_of_it() -> None:
    def rule(value: str) -> None:
        raise ValueError(f"{value} is bad")

    with pytest.raises(ConfigError, match=r"^params: api_token: not acceptable \(its value is not"):
        structure(Params, {"api_token": "5ec"}, source=NOWHERE, rules={Params: {"api_token": rule}})
