"""A real systemd in a sandbox, with the project's units and this interpreter installed in it.

The script that `ZQ_SDBOX` names boots systemd as the first process of fresh namespaces, over a
throw-away overlay of this machine's files: nothing here touches the machine itself.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import selectors
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

import zq_daemon

Entry = dict[str, Any]
"""A line of the sandbox's journal, by its fields."""

SERVICE = "zq-daemon.service"
STARTED = "39f53479d3a045ac8e11786248231fbf"
"""systemd's message id of a unit that is up."""

_PATIENCE_S = 45
_ROOT = Path(__file__).parents[2]
_HOME = "/opt/zq-daemon"


class Sandbox:
    """The running sandbox: commands and files in it, and what its journal says."""

    def __init__(self, script: Path, state: Path) -> None:
        self._script = script
        self._state = state

    @property
    def root(self) -> Path:
        """Its file system, seen from outside."""
        return Path(f"/proc/{(self._state / 'leader').read_text().strip()}/root")

    def call(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it, whatever its exit code."""
        return self._sdbox("exec", *command)

    def run(self, *command: str) -> str:
        """Run a command in it that has to succeed; its output."""
        done = self.call(*command)
        assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stderr}\n{self.tail()}"
        return done.stdout

    def show(self, name: str, unit: str = SERVICE) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, unit).strip()

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file in it, its folder made if missing."""
        inside = self.root / path.lstrip("/")
        inside.parent.mkdir(parents=True, exist_ok=True)
        inside.write_text(text)
        inside.chmod(mode)

    def tail(self) -> str:
        """The end of its journal."""
        return self.call("journalctl", "-n", "60", "-o", "cat", "--no-pager").stdout

    def cursor(self) -> str:
        """Where its journal ends now."""
        shown = self.run("journalctl", "-n", "1", "-o", "cat", "--show-cursor", "--no-pager")
        found = re.search(r"^-- cursor: (.+)$", shown, re.MULTILINE)
        assert found is not None, shown
        return found[1]

    def wait(
        self, wanted: Callable[[Entry], bool], what: str, *, since: str, count: int = 1
    ) -> Entry:
        """The *count*th journal line after the cursor *since* that *wanted* accepts."""
        follow = ["journalctl", "--follow", "--no-tail", "-o", "json", f"--after-cursor={since}"]
        with subprocess.Popen(
            [self._script, "exec", *follow], env=self._env(), stdout=subprocess.PIPE
        ) as reader:
            try:
                for entry in _entries(reader):
                    count -= wanted(entry)
                    if not count:
                        return entry
            finally:
                reader.kill()
        raise AssertionError(f"never in the journal: {what}; it ends:\n{self.tail()}")

    def wait_event(self, event: str, *, since: str, unit: str = SERVICE, count: int = 1) -> Entry:
        """The *count*th line that the daemon logged with this event text after *since*."""

        def wanted(entry: Entry) -> bool:
            return entry.get("_SYSTEMD_UNIT") == unit and logged(entry).get("event") == event

        return logged(self.wait(wanted, event, since=since, count=count))

    def wait_text(self, text: str, *, since: str) -> None:
        """Wait for a line with *text* in it."""
        self.wait(lambda entry: text in str(entry.get("MESSAGE")), text, since=since)

    def wait_unit(self, field: str, value: str, *, since: str) -> None:
        """Wait until systemd itself wrote a line about the service with this field."""
        self.wait(
            lambda entry: entry.get("UNIT") == SERVICE and entry.get(field) == value,
            f"{SERVICE} {field}={value}",
            since=since,
        )

    def up(self, hook: Path) -> None:
        """Boot it."""
        booted = self._sdbox("up", str(hook))
        assert booted.returncode == 0, f"the sandbox does not boot:\n{booted.stderr}"

    def down(self) -> None:
        """End everything in it, and take it away."""
        self._sdbox("down")

    def _sdbox(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._script, *arguments],
            env=self._env(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * _PATIENCE_S,
        )

    def _env(self) -> dict[str, str]:
        return os.environ | {"SDBOX": str(self._state)}


def why_not() -> str | None:
    """Why there can be no sandbox here; None when there can."""
    if not os.environ.get("ZQ_SDBOX"):
        return "ZQ_SDBOX is not set: no systemd sandbox on this machine"
    if os.geteuid() != 0:
        return "a systemd sandbox needs root"
    if not Path("/lib/systemd/systemd").exists():
        return "systemd is not installed on this machine"
    return None


@contextmanager
def booted(folder: Path) -> Iterator[Sandbox]:
    """A sandbox with the user, the units and the program installed; its files are in *folder*."""
    box = Sandbox(Path(os.environ["ZQ_SDBOX"]), folder / "s")
    hook = folder / "hook"
    hook.write_text(_hook())
    hook.chmod(0o755)
    try:
        box.up(hook)
        box.run("systemd-sysusers")
        yield box
    finally:
        box.down()


def logged(entry: Entry) -> dict[str, Any]:
    """The JSON line a process of ours wrote; nothing when it is none."""
    try:
        line = json.loads(entry.get("MESSAGE") or "")
    except (TypeError, ValueError):  # binary messages are arrays of numbers
        return {}
    return line if isinstance(line, dict) else {}


def _entries(reader: subprocess.Popen[bytes]) -> Iterator[Entry]:
    """The journal's lines as they come, for a bounded time."""
    assert reader.stdout is not None
    descriptor = reader.stdout.fileno()
    until = time.monotonic() + _PATIENCE_S
    pending = b""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        while (left := until - time.monotonic()) > 0:
            if not selector.select(left):
                return
            chunk = os.read(descriptor, 65_536)
            if not chunk:
                return
            *lines, pending = (pending + chunk).split(b"\n")
            yield from (json.loads(line) for line in lines)


def _hook() -> str:
    """What puts everything in its place below $ROOT: interpreter and packages are bound in.

    They may be below a folder that is closed to other users, and a Python that was moved does not
    find its shared library by itself.
    """
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    bound = {
        "python": Path(sys.base_prefix),
        "site-packages": Path(inspect.getfile(trio)).parents[1],
        "source/zq_daemon": Path(inspect.getfile(zq_daemon)).parent,
    }
    program = f"""#!/bin/sh
export LD_LIBRARY_PATH={_HOME}/python/lib PYTHONPATH={_HOME}/source:{_HOME}/site-packages
exec {_HOME}/python/bin/{python} -P -m zq_daemon "$@"
"""
    lines = ["#!/bin/bash", "set -euo pipefail", f'home="$ROOT{_HOME}"', 'mkdir -p "$home/bin"']
    for name, path in bound.items():
        lines += [f'mkdir -p "$home/{name}"', f'mount --bind {_quoted(path)} "$home/{name}"']
    lines += [
        f'printf %s {shlex.quote(program)} >"$home/bin/zq-daemon"',
        'chmod 755 "$home" "$home/bin" "$home/bin/zq-daemon"',
        f'cp {_quoted(_ROOT / "systemd")}/*.{{service,timer}} "$ROOT/etc/systemd/system/"',
        f"cp {_quoted(_ROOT / 'systemd/zq-daemon.sysusers.conf')} "
        '"$ROOT/usr/lib/sysusers.d/zq-daemon.conf"',
    ]
    return "\n".join(lines) + "\n"


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
