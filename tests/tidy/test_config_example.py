"""`config.toml.example` documents every key, and its commented lines are the defaults."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest

from zq_daemon.config.load import parse_document, structure_config
from zq_daemon.config.schema import (
    DaemonConfig,
    ExchangeConfig,
    HyperliquidConfig,
    LimitsConfig,
    LogConfig,
    RiskConfig,
    StalenessConfig,
    StrategyConfig,
    WsEndpointConfig,
)

EXAMPLE = Path(__file__).parents[2] / "config.toml.example"
KEY = re.compile(r"(#?)([a-z_]+) = ")
REQUIRED = {WsEndpointConfig: {"url", "streams"}, StrategyConfig: {"name", "use", "instruments"}}
SECTIONS = {
    "": DaemonConfig,
    "ws_endpoints": WsEndpointConfig,
    "venues.hyperliquid": HyperliquidConfig,
    "strategies": StrategyConfig,
    "risk": RiskConfig,
    "staleness": StalenessConfig,
    "limits": LimitsConfig,
    "exchange": ExchangeConfig,
    "log": LogConfig,
}


def sections() -> dict[str, list[str]]:
    """The lines of each table; of an array of tables only the first one's."""
    found: dict[str, list[str]] = {"": []}
    lines = found[""]
    for line in EXAMPLE.read_text().splitlines():
        header = re.fullmatch(r"\[+([a-z_.]+)\]+", line)
        if header:
            lines = [] if header[1] in found else found.setdefault(header[1], [])
        lines.append(line)
    return found


def commented(lines: list[str]) -> dict[str, str]:
    return {m[2]: line[1:] for line in lines if (m := KEY.match(line)) and m[1]}


def test_every_table_is_there() -> None:
    assert sections().keys() == SECTIONS.keys() | {"strategies.params"}


@pytest.mark.parametrize("table", SECTIONS)
def test_every_key_is_documented_with_its_default(table: str) -> None:
    cls = SECTIONS[table]
    tables = {name.split(".")[0] for name in SECTIONS} if cls is DaemonConfig else set()
    keys = {field.name for field in attrs.fields(cls)} - REQUIRED.get(cls, set()) - tables
    assert commented(sections()[table]).keys() == keys


def test_uncommented_defaults_are_the_schemas_defaults() -> None:
    text, expected = "", DaemonConfig()
    for table, lines in sections().items():
        if table == "strategies.params":
            continue
        cls = SECTIONS[table]
        header = [line for line in lines if line.startswith("[")]
        text += "\n".join([*header, *commented(lines).values(), *given(cls)]) + "\n"
    expected = attrs.evolve(
        expected,
        ws_endpoints=(WsEndpointConfig(url="ws://x", streams=("trades:X",)),),
        strategies=(StrategyConfig(name="n", use="m:C", instruments=("hyperliquid.X",)),),
    )
    assert structure_config(parse_document(text, "example")) == expected


def given(cls: type) -> list[str]:
    """Values for the keys that have no default."""
    match cls.__name__:
        case "WsEndpointConfig":
            return ['url = "ws://x"', 'streams = ["trades:X"]']
        case "StrategyConfig":
            return ['name = "n"', 'use = "m:C"', 'instruments = ["hyperliquid.X"]']
    return []


def test_the_demo_differs_from_the_defaults_where_it_says_so() -> None:
    demo = structure_config(parse_document(EXAMPLE.read_text(), "example"))
    assert demo.exchange.enabled
    local = f"127.0.0.1:{demo.exchange.port}"
    assert {endpoint.url for endpoint in demo.ws_endpoints} == {f"ws://{local}/ws"}
    assert demo.venues.hyperliquid.api_url == f"http://{local}"
    assert len(demo.strategies) == 2
    assert demo.tick_interval_ms == 250
