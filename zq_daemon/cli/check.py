"""Everything that can be known about a configuration without starting.

`zq-daemon check` tells it; `zq-daemon run` begins with it, so that a misspelt parameter is told at
once, and not when the venue has answered.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from zq_daemon.assembly import find_signer
from zq_daemon.config.load import load_config, read_document
from zq_daemon.config.schema import DaemonConfig
from zq_daemon.config.source import Problem, Source, config_error
from zq_daemon.errors import ConfigError, StrategyError
from zq_daemon.ports.rng import system_rng
from zq_daemon.strategy.load import load_class, structure_params
from zq_daemon.venue.hyperliquid.session import Stream


def check_config(path: Path) -> str:
    """What the sound file at *path* would start, and who would sign; raises as `sound_config`."""
    config = sound_config(path)
    return f"{path}: sound: {_count(config)}{_signing(config)}"


def sound_config(path: Path) -> DaemonConfig:
    """The configuration at *path*, after every check that needs neither venue nor exchange.

    Raises ConfigError with every problem, also of streams, strategies and their parameters, and
    CredentialError for a key that is missing or cannot be used.
    """
    config = load_config(path)
    source = read_document(path).source
    told = [*_stream_problems(config, source), *_strategy_problems(config, source)]
    if told:
        raise ConfigError("\n".join(told))
    signer = find_signer(config, system_rng())
    if signer.key is not None and signer.account is None:
        reason = "needed beside the agent key: the address that owns the orders, not the agent's"
        problem = Problem(("venues", "hyperliquid", "account"), reason)
        raise config_error([problem], source)
    return config


def _stream_problems(config: DaemonConfig, source: Source) -> Iterator[str]:
    for number, endpoint in enumerate(config.ws_endpoints):
        for index, stream in enumerate(endpoint.streams):
            try:
                Stream.parse(stream)
            except ValueError as error:
                path = ("ws_endpoints", number, "streams", index)
                yield str(config_error([Problem(path, str(error))], source))


def _strategy_problems(config: DaemonConfig, source: Source) -> Iterator[str]:
    for number, strategy in enumerate(config.strategies):
        if not strategy.enabled:
            continue
        part = source.at("strategies", number)
        try:
            cls = load_class(strategy.name, strategy.use, strategy.path)
            structure_params(cls, strategy.params, part.at("params"))
        except StrategyError as error:
            yield str(config_error([Problem(("use",), str(error))], part))
        except ConfigError as error:
            yield str(error)


def _count(config: DaemonConfig) -> str:
    running = sum(strategy.enabled for strategy in config.strategies)
    exchange = ", on the embedded exchange" if config.exchange.enabled else ""
    return f"{len(config.ws_endpoints)} endpoints, {running} strategies{exchange}"


def _signing(config: DaemonConfig) -> str:
    """The addresses; the demo's own key is another one at each start, so nothing is said of it."""
    venue = config.venues.hyperliquid
    if venue.account is None:
        return ""
    key = find_signer(config, system_rng()).key
    agent = "nobody (no key: it cannot trade)" if key is None else key.address
    return f"\norders of {venue.account} on {venue.network}, signed by {agent}"
