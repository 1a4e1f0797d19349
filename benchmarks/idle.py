"""What a real daemon process uses while little happens: CPU and memory, read from /proc."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from benchmarks.measure import Scale, cpu_share, resident_bytes
from benchmarks.processes import exchange_process, free_port, python_process
from benchmarks.report import Row, size
from benchmarks.scratch import ROOT

LIMIT = 0.20
_DEMO_PORT = "18473"
_TRIO_ALONE = ("-c", "import sys, trio; print('running', file=sys.stderr, flush=True); input()")
_MARKET_DATA_ONLY = """
[[ws_endpoints]]
url = "ws://127.0.0.1:{port}/ws"
streams = ["l2Book:BTC", "trades:BTC", "bbo:BTC", "activeAssetCtx:BTC"]
[venues.hyperliquid]
api_url = "http://127.0.0.1:{port}"
"""


@frozen
class Usage:
    """Part of one core (0 to 1), and bytes."""

    cpu: float
    memory: int


def run(scale: Scale) -> Iterator[Row]:
    """The demo, with exchange and strategies inside; then market data only, from a demo's."""
    trio_alone = idle_process(_TRIO_ALONE, 0).memory
    with tempfile.TemporaryDirectory() as folder:
        demo = _write_demo(Path(folder))
        yield from _rows("demo: exchange, 2 strategies", demo, trio_alone, scale)
    with market_data_only() as config:
        yield from _rows("market data only, 4 streams", config, trio_alone, scale)


@contextmanager
def market_data_only() -> Iterator[Path]:
    """The configuration of a daemon that listens to an exchange which runs meanwhile."""
    with tempfile.TemporaryDirectory() as folder, exchange_process() as served:
        path = Path(folder) / "config.toml"
        path.write_text(_MARKET_DATA_ONLY.format(port=served.port))
        yield path


def idle_daemon(config: Path, duration_s: float) -> Usage:
    """What `zq-daemon run` with this *config* uses over *duration_s*, a second after its start."""
    return idle_process(("-m", "zq_daemon", "run", "--config", str(config)), duration_s)


def idle_process(arguments: Sequence[str], duration_s: float) -> Usage:
    """The same of any Python that says `running` on standard error."""
    with python_process(arguments, "running") as process:
        time.sleep(min(duration_s, 1))
        return Usage(cpu_share(process.pid, duration_s), resident_bytes(process.pid))


def _rows(name: str, config: Path, trio_alone: int, scale: Scale) -> Iterator[Row]:
    usage = idle_daemon(config, scale.idle_s)
    yield Row(
        name=f"idle daemon, {name}: CPU",
        figure=f"{usage.cpu:.1%} of a core",
        limit=f"< {LIMIT:.0%}",
        holds=usage.cpu < LIMIT,
    )
    yield Row(
        name=f"idle daemon, {name}: RSS",
        figure=size(usage.memory),
        against=f"Python with Trio alone {size(trio_alone)}",
    )


def _write_demo(folder: Path) -> Path:
    """`config.toml.example` on a free port, its state in *folder*."""
    text = (ROOT / "config.toml.example").read_text()
    text = text.replace(f"#port = {_DEMO_PORT}", f"port = {_DEMO_PORT}")
    path = folder / "config.toml"
    path.write_text(text.replace(_DEMO_PORT, str(free_port())))
    return path
