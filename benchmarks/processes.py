"""Processes that are measured, or measured against: started, waited for, ended."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

from benchmarks.scratch import ROOT

_PATIENCE_S = 60


@contextmanager
def python_process(
    arguments: Sequence[str], ready: str, *, end: int = signal.SIGTERM
) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process that has written *ready* to its output; ended by the signal *end*."""
    command = [sys.executable, *arguments]
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=log, stderr=log) as made,
    ):
        try:
            _wait_for(made, log.fileno(), ready.encode())
            yield made
        finally:
            made.send_signal(end)
            made.wait(_PATIENCE_S)


@frozen
class Served:
    """An exchange that listens."""

    port: int
    pid: int

    @property
    def url(self) -> str:
        """What its clients are given."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def exchange_process() -> Iterator[Served]:
    """The exchange that comes with the daemon, in a process of its own."""
    port = free_port()
    arguments = ("-m", "zq_daemon", "exchange", "--port", str(port), "--seed", "1")
    with python_process(arguments, "exchange open") as process:
        yield Served(port, process.pid)


def free_port() -> int:
    """A TCP port nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _wait_for(process: subprocess.Popen[bytes], log: int, ready: bytes) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        text = Path(f"/proc/self/fd/{log}").read_bytes()
        if ready in text:
            return
        if process.poll() is not None:
            raise RuntimeError(f"{process.args!r} ended with {process.returncode}: {text.decode()}")
        time.sleep(0.01)
    raise TimeoutError(f"{process.args!r} is not ready: {text.decode()}")
