"""Reads the one TOML file into a `DaemonConfig`, or says everything that is wrong with it.

Owns reading, TOML syntax and the meaning of relative paths (relative to the file). It never reads
secrets (`config.secrets`) and opens nothing the file names. Called by the command line and by
whoever reloads.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from attrs import evolve, frozen

from zq_daemon.config.locate import locate
from zq_daemon.config.rules import RULES, cross_problems, missing_paths
from zq_daemon.config.schema import DaemonConfig
from zq_daemon.config.source import Source, config_error
from zq_daemon.config.structure import check, structure
from zq_daemon.errors import ConfigError

MAX_BYTES = 1 << 20
ANOTHER_CONFIG = "copy config.toml.example there, or name another with --config"
"""What to do where there is no configuration."""

_POSITION = re.compile(r"(?s)(.*) \(at line (\d+), column (\d+)\)")


@frozen
class Document:
    """A parsed TOML file and where its keys stand."""

    mapping: Mapping[str, Any]
    source: Source


def load_config(path: str | Path) -> DaemonConfig:
    """The configuration in the file at *path*, its paths made absolute.

    Raises ConfigError with every problem of the file, one a line:
    `config.toml:12: risk.max_order_notinal: unknown key; did you mean 'max_order_notional'?`
    """
    path = Path(path)
    document = read_document(path)
    config = resolve_paths(structure_config(document), path.absolute().parent)
    missing = list(missing_paths(config))
    if missing:
        raise config_error(missing, document.source)
    return config


def read_document(path: Path, if_missing: str = ANOTHER_CONFIG) -> Document:
    """Parse the file at *path*; ConfigError says why it cannot be read or is not TOML.

    *if_missing* is what to do where there is none. The document's `source` locates the errors of
    parts structured later, such as a strategy's parameters.
    """
    return parse_document(_read(path, if_missing), str(path))


def parse_document(text: str, name: str) -> Document:
    """Parse *text*, called *name* in errors; floats become exact Decimals."""
    text = text.replace("\r\n", "\n")
    try:
        mapping = tomllib.loads(text, parse_float=_exact)
        lines = locate(text)
    except RecursionError:
        raise ConfigError(f"{name}: arrays or tables are nested too deeply") from None
    except ValueError as error:
        raise ConfigError(_syntax(name, str(error))) from None
    return Document(mapping, Source(name=name, lines=lines))


def structure_config(document: Document) -> DaemonConfig:
    """The configuration a parsed file means, paths as written; ConfigError with every problem."""
    problems = list(cross_problems(document.mapping))
    if problems:
        problems.extend(check(DaemonConfig, document.mapping, RULES))
        raise config_error(problems, document.source)
    return structure(DaemonConfig, document.mapping, source=document.source, rules=RULES)


def resolve_paths(config: DaemonConfig, folder: Path) -> DaemonConfig:
    """*config* with its relative paths taken from *folder*."""

    def absolute(path: str) -> str:
        return str(folder / path)

    return evolve(
        config,
        state_dir=absolute(config.state_dir),
        control_socket=_if_set(absolute, config.control_socket),
        venues=evolve(
            config.venues,
            hyperliquid=evolve(
                config.venues.hyperliquid,
                key_file=_if_set(absolute, config.venues.hyperliquid.key_file),
            ),
        ),
        strategies=tuple(
            evolve(strategy, path=_if_set(absolute, strategy.path))
            for strategy in config.strategies
        ),
        exchange=evolve(config.exchange, replay=_if_set(absolute, config.exchange.replay)),
    )


def control_socket(config: DaemonConfig) -> Path:
    """Where the daemon with this configuration listens for `status` and `stop`."""
    if config.control_socket is not None:
        return Path(config.control_socket)
    return Path(config.state_dir) / "control.sock"


def _if_set(change: Callable[[str], str], value: str | None) -> str | None:
    return None if value is None else change(value)


def _read(path: Path, if_missing: str) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; {if_missing}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path}: larger than {MAX_BYTES >> 20} MiB: not a configuration file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from None


def _exact(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("Infinity")


def _syntax(name: str, said: str) -> str:
    match = _POSITION.fullmatch(said)
    if match:
        return f"{name}:{match[2]}:{match[3]}: not valid TOML: {match[1]}"
    return f"{name}: not valid TOML: {said}"
