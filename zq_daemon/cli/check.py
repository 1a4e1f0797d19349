"""Everything that can be known about a configuration without starting.

`zq-daemon check` tells it; `zq-daemon run` begins with it, so that a misspelt parameter is told at
once, and not when the venue has answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zq_daemon.assembly import find_signer
from zq_daemon.config.advice import advise
from zq_daemon.config.load import Document, load_config, read_document
from zq_daemon.config.schema import DaemonConfig
from zq_daemon.config.source import Problem, config_error
from zq_daemon.errors import ConfigError, StrategyError
from zq_daemon.ports.rng import system_rng
from zq_daemon.strategy.load import load_class, structure_params


def check_config(path: Path) -> str:
    """What the sound file at *path* would start, and who would sign; raises as `sound_config`."""
    config = sound_config(path)
    advice = "".join(f"\nwarning: {oddity}" for oddity in advise(config))
    return f"{path}: sound: {_count(config)}{_signing(config)}{advice}"


def sound_config(path: Path) -> DaemonConfig:
    """The configuration at *path*, after every check that needs neither venue nor exchange.

    Raises ConfigError with every problem, also of strategies and their parameters, and
    CredentialError for a key that is missing or cannot be used.
    """
    document = read_document(path)
    told = list(_strategy_problems(document, path.absolute().parent))
    try:
        config = load_config(path)
    except ConfigError as error:
        told.insert(0, str(error))
    if told:
        raise ConfigError("\n".join(told))
    signer = find_signer(config, system_rng())
    if signer.key is not None and signer.account is None:
        own = signer.key.address
        reason = f"needed beside the agent key: whose orders? (not the agent's own address, {own})"
        problem = Problem(("venues", "hyperliquid", "account"), reason)
        raise config_error([problem], document.source)
    return config


def _strategy_problems(document: Document, folder: Path) -> Iterator[str]:
    """What is wrong with classes and parameters; with the rest of a strategy: `load_config`."""
    for number, strategy in _strategies(document):
        name, use, path = (strategy.get(key, "") for key in ("name", "use", "path"))
        params = strategy.get("params", {})
        if not (isinstance(name, str) and isinstance(use, str) and isinstance(path, str)):
            continue
        if ":" not in use or not isinstance(params, Mapping):
            continue
        part = document.source.at("strategies", number)
        try:
            cls = load_class(name, use, str(folder / path) if path else None)
            structure_params(cls, params, part.at("params"))
        except StrategyError as error:
            yield str(config_error([Problem(("use",), str(error))], part))
        except ConfigError as error:
            yield str(error)


def _strategies(document: Document) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The tables of the strategies, each with its number."""
    items = document.mapping.get("strategies")
    for number, item in enumerate(items if isinstance(items, list) else ()):
        if isinstance(item, Mapping):
            yield number, item


def _count(config: DaemonConfig) -> str:
    endpoints = _number(len(config.ws_endpoints), "endpoint", "endpoints")
    enabled = sum(strategy.enabled for strategy in config.strategies)
    strategies = _number(enabled, "strategy", "strategies")
    exchange = ", on the embedded exchange" if config.exchange.enabled else ""
    return f"{endpoints}, {strategies}{exchange}"


def _number(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _signing(config: DaemonConfig) -> str:
    """The addresses; the demo's own key is another one at each start, so nothing is said of it."""
    venue = config.venues.hyperliquid
    if venue.account is None:
        return ""
    key = find_signer(config, system_rng()).key
    agent = "nobody (no key: it cannot trade)" if key is None else key.address
    return f"\norders of {venue.account} on {venue.network}, signed by {agent}"
