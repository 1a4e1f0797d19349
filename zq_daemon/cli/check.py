"""`zq-daemon check`: everything that can be known about a configuration without starting."""

from __future__ import annotations

from pathlib import Path

from zq_daemon.config.load import load_config


def check_config(path: Path) -> str:
    """One line that says what the sound file at *path* would start; ConfigError otherwise."""
    config = load_config(path)
    running = sum(strategy.enabled for strategy in config.strategies)
    return f"{path}: ok: {len(config.ws_endpoints)} endpoints, {running} strategies"
