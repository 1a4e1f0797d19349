"""Loading a strategy: what is there works, what is not is told by name."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from zq_daemon.config.source import Source
from zq_daemon.errors import ConfigError, StrategyError
from zq_daemon.strategy.load import Blame, load_class, structure_params
from zq_daemon.strategy.ma_cross import MovingAverageCross

SOURCE = Source(name="config.toml", lines={("params", "slow"): 7}, prefix=("params",))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    path, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def test_a_shipped_strategy_is_found() -> None:
    use = "zq_daemon.strategy.ma_cross:MovingAverageCross"
    assert load_class("cross", use) is MovingAverageCross


def test_a_strategy_in_a_folder_of_the_users_own(folder: Path) -> None:
    (folder / "mine_one.py").write_text(
        "from attrs import frozen\n"
        "from zq_daemon.strategy.base import Strategy\n"
        "class Mine(Strategy):\n"
        "    @frozen\n"
        "    class Params:\n"
        "        size: int = 1\n"
    )
    cls = load_class("mine", "mine_one:Mine", str(folder))
    assert cls.__name__ == "Mine"
    assert structure_params(cls, {"size": 3}, SOURCE).size == 3


@pytest.mark.parametrize(
    ("source", "use", "said"),
    [
        ("", "mine_two", "expected 'module:Class'"),
        ("", ":Mine", "expected 'module:Class'"),
        ("", "nowhere_at_all:Mine", "no module named 'nowhere_at_all'"),
        ("", "mine_two.part:Mine", "no module named 'mine_two.part'"),
        ("", "mine_two:Mine", "no class 'Mine' in"),
        ("class Mine: pass", "mine_two:Mine", "not a subclass of Strategy"),
        ("Mine = 3", "mine_two:Mine", "not a subclass of Strategy"),
        ("import not_installed_here", "mine_two:Mine", "not_installed_here"),
        ("1/0", "mine_two:Mine", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "mine_two:Mine", "SystemExit: 3"),
        ("def (:", "mine_two:Mine", "SyntaxError"),
        (
            "from zq_daemon.strategy.base import Strategy\n"
            "class Mine(Strategy):\n    class Params: pass",
            "mine_two:Mine",
            "Params is not an attrs class",
        ),
    ],
)
def test_what_cannot_be_loaded_is_told(folder: Path, source: str, use: str, said: str) -> None:
    (folder / "mine_two.py").write_text(source)
    with pytest.raises(StrategyError) as caught:
        load_class("mine", use, str(folder))
    assert str(caught.value).startswith("strategy mine: ")
    assert said in str(caught.value)


def test_an_interrupt_is_nobodys_fault() -> None:
    with pytest.raises(KeyboardInterrupt), Blame("mine", "waiting"):
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"quantity": 1, "slwo": 3}, "did you mean 'slow'"),
        ({}, "quantity"),
        ({"quantity": 1, "slow": "many"}, "config.toml:7: params.slow"),
        ({"quantity": 1, "fast": 30, "slow": 10}, "must be positive and below slow"),
        ({"quantity": 0}, "must be positive"),
    ],
)
def test_parameters_are_checked_where_they_stand(params: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        structure_params(MovingAverageCross, params, SOURCE)
    assert said in str(caught.value)
