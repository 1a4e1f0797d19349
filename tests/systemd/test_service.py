"""The unit under a real systemd: readiness, reload, stop, crashes, the watchdog, who it runs as.

The unit is the one that is shipped. Drop-ins change only what a test would have to wait long for.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.harness.process import demo_config
from tests.systemd.sandbox import SERVICE, STARTED, Sandbox, booted, why_not
from zq_daemon.exit_codes import ExitCode
from zq_daemon.venue.hyperliquid.sign import AgentKey

CONFIG = "/etc/zq-daemon/config.toml"
KEY = f"{7:064x}"
PORT = 18_473
EXCHANGE = "zq-test-exchange.service"
WATCHDOG_S = 3
"""Instead of the 30 s that are shipped: a loop that hangs is to be seen within a test's time."""

SHORT_GRACE = "shutdown_grace_ms = 500"
"""For a venue that is gone: no stop would get more out of it by waiting."""

STUCK = "/etc/zq-daemon/stuck"
STRATEGY = f"""
import time
from pathlib import Path
from zq_daemon.strategy.base import Strategy

class Stuck(Strategy):
    def on_tick(self, tick):
        while Path("{STUCK}").exists():
            time.sleep(3600)
"""
STRATEGY_TABLE = """
[[strategies]]
name = "stuck"
use = "stuck:Stuck"
path = "strategies"
instruments = ["hyperliquid.BTC"]
"""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    if reason := why_not():
        pytest.skip(reason)
    with booted(tmp_path_factory.mktemp("sandbox")) as box:
        box.write("/etc/zq-daemon/agent.key", f"{KEY}\n", 0o600)
        box.write("/etc/zq-daemon/strategies/stuck.py", STRATEGY)
        box.write(f"/etc/systemd/system/{EXCHANGE}", exchange_unit())
        yield box


@pytest.fixture
def box(sandbox: Sandbox) -> Iterator[Sandbox]:
    """The sandbox with the demo configured, no journal, and nothing of ours running."""
    sandbox.run("rm", "-rf", "/var/lib/zq-daemon")
    sandbox.write(CONFIG, config())
    sandbox.run("systemctl", "daemon-reload")
    yield sandbox
    sandbox.run("systemctl", "stop", SERVICE, EXCHANGE)
    sandbox.call("systemctl", "reset-failed")


def config(*, embedded: bool = True, key: bool = True, extra: str = "") -> str:
    """The demo, its state where the unit keeps it and its key where the unit passes it."""
    text = demo_config(PORT, extra=extra)
    if key:
        account = f'[venues.hyperliquid]\naccount = "{AgentKey.from_text(KEY).address}"'
        text = text.replace("[venues.hyperliquid]", account)
    text = text.replace('state_dir = "var"', 'state_dir = "/var/lib/zq-daemon"')
    return text if embedded else text.replace("enabled = true", "enabled = false")


def exchange_unit() -> str:
    """A venue of its own, that can go away."""
    program = "/opt/zq-daemon/bin/zq-daemon"
    return f"[Service]\nExecStart={program} exchange --port {PORT} --seed 7\nKillSignal=SIGKILL\n"


@contextmanager
def drop_in(box: Sandbox, text: str) -> Iterator[None]:
    path = f"/run/systemd/system/{SERVICE}.d/test.conf"
    box.write(path, f"[Service]\n{text}\n")
    box.run("systemctl", "daemon-reload")
    try:
        yield
    finally:
        box.run("rm", path)
        box.run("systemctl", "daemon-reload")


def ask(box: Sandbox, command: str, *arguments: str) -> str:
    """What a command of ours prints."""
    return box.run("/opt/zq-daemon/bin/zq-daemon", command, *arguments, "--config", CONFIG)


def status(box: Sandbox) -> dict[str, Any]:
    found = json.loads(ask(box, "status", "--json"))
    assert isinstance(found, dict)
    return found


def main_process(box: Sandbox) -> int:
    return int(box.show("MainPID"))


def test_start_returns_when_it_trades_and_stop_verifies(box: Sandbox) -> None:
    began = box.cursor()
    box.run("systemctl", "start", SERVICE)
    assert box.show("ActiveState") == "active"
    assert box.show("StatusText") != ""
    assert status(box)["daemon"]["state"] == "running"
    box.wait_event("order accepted", since=began)
    box.run("systemctl", "stop", SERVICE)
    assert box.show("Result") == "success"
    assert box.show("ExecMainStatus") == str(ExitCode.OK.value)
    stopped = box.wait_event("stopped", since=began)
    assert re.fullmatch(r"[1-9]\d* cancelled, 0 unverified", stopped["orders"])
    assert stopped["reason"] == "SIGTERM"


def test_it_runs_as_its_own_user_and_keeps_its_files_to_itself(box: Sandbox) -> None:
    box.run("systemctl", "start", SERVICE)
    user = int(box.run("id", "-u", "zq"))
    process = main_process(box)
    about = (box.root / f"proc/{process}/status").read_text()
    assert re.search(rf"^Uid:\t{user}\t{user}\t{user}\t{user}$", about, re.MULTILINE)
    assert re.search(r"^NoNewPrivs:\t1$", about, re.MULTILINE)
    assert re.search(r"^CapBnd:\t0+$", about, re.MULTILINE)
    state = box.root / "var/lib/zq-daemon"
    found = {path: path.lstat() for path in (state, *state.rglob("*"))}
    modes = {"folder": 0o700, "file": 0o600, "socket": 0o600}
    assert {kind(one.st_mode) for one in found.values()} == {"folder", "file", "socket"}
    assert [str(path) for path, one in found.items() if one.st_uid != user] == []
    wrong = [path for path, one in found.items() if one.st_mode & 0o777 != modes[kind(one.st_mode)]]
    assert wrong == []
    assert (box.root / "run/zq-daemon").stat().st_mode & 0o777 == 0o700


def kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "folder"
    return "socket" if stat.S_ISSOCK(mode) else "file"


def test_without_a_key_the_credential_is_dropped(box: Sandbox) -> None:
    """As the page beside the units says."""
    box.write(CONFIG, config(key=False))
    with drop_in(box, "LoadCredential="):
        box.run("systemctl", "start", SERVICE)
        assert not (box.root / f"run/credentials/{SERVICE}").exists()


def test_the_control_socket_may_be_in_the_runtime_folder(box: Sandbox) -> None:
    box.write(CONFIG, config(extra='control_socket = "/run/zq-daemon/control.sock"'))
    box.run("systemctl", "start", SERVICE)
    box.run("systemctl", "reload", SERVICE)
    box.run("systemctl", "stop", SERVICE)
    assert not (box.root / "run/zq-daemon").exists()


def test_a_reload_is_waited_for_and_fails_with_what_is_wrong(box: Sandbox) -> None:
    box.run("systemctl", "start", SERVICE)
    process = main_process(box)
    changed = config(extra="heartbeat_interval_ms = 5000").replace("fast = 2", "fast = 3")
    box.write(CONFIG, changed)
    began = box.cursor()
    box.run("systemctl", "reload", SERVICE)
    box.wait_text("applied: strategies[0].params.fast", since=began)
    box.wait_text("needs a restart: heartbeat_interval_ms", since=began)
    box.write(CONFIG, changed.replace("fast = 3", "fast = 99"))
    began = box.cursor()
    assert box.call("systemctl", "reload", SERVICE).returncode != 0
    box.wait_text("config.toml:", since=began)
    box.wait_text("nothing changed", since=began)
    assert (box.show("ActiveState"), main_process(box)) == ("active", process)


def test_a_killed_daemon_is_started_again(box: Sandbox) -> None:
    box.run("systemctl", "start", SERVICE)
    process = main_process(box)
    began = box.cursor()
    box.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", SERVICE)
    box.wait_unit("UNIT_RESULT", "signal", since=began)
    box.wait_unit("MESSAGE_ID", STARTED, since=began)
    assert box.show("NRestarts") == "1"
    assert main_process(box) not in (0, process)
    assert box.show("StatusText") != ""
    box.wait_event("running", since=began)


def test_a_loop_that_hangs_is_killed_and_tells_where(box: Sandbox) -> None:
    box.write(CONFIG, config() + STRATEGY_TABLE)
    with drop_in(box, f"WatchdogSec={WATCHDOG_S}s"):
        box.run("systemctl", "start", SERVICE)
        began = box.cursor()
        box.write(STUCK, "")
        try:
            box.wait_unit("UNIT_RESULT", "watchdog", since=began)
        finally:
            box.run("rm", STUCK)
        box.wait_text("stuck.py", since=began)  # Python's trace
        box.wait_unit("MESSAGE_ID", STARTED, since=began)
        box.wait_event("running", since=began)


def test_an_outage_of_the_venue_never_gets_it_killed(box: Sandbox) -> None:
    box.write(CONFIG, config(embedded=False, extra=SHORT_GRACE))
    box.run("systemctl", "start", EXCHANGE)
    with drop_in(box, f"WatchdogSec={WATCHDOG_S}s"):
        box.run("systemctl", "start", SERVICE)
        process = main_process(box)
        box.run("systemctl", "stop", EXCHANGE)
        began, fed_us = box.cursor(), int(box.show("WatchdogTimestampMonotonic"))
        # A summary a second: the outage is longer than the watchdog's patience, twice.
        box.wait_event("market", since=began, count=2 * WATCHDOG_S + 1)
        assert "up" not in {link["state"] for link in status(box)["links"]}
        assert (box.show("ActiveState"), main_process(box)) == ("active", process)
        assert int(box.show("WatchdogTimestampMonotonic")) > fed_us + WATCHDOG_S * 1_000_000


def with_orders_nobody_can_confirm(box: Sandbox) -> None:
    """The daemon has open orders, and the venue is gone."""
    box.write(CONFIG, config(embedded=False, extra=SHORT_GRACE))
    began = box.cursor()
    box.run("systemctl", "start", EXCHANGE)
    box.run("systemctl", "start", SERVICE)
    box.wait_event("order accepted", since=began)
    box.run("systemctl", "stop", EXCHANGE)


def test_a_stop_that_could_not_be_verified_is_told_and_stays_a_stop(box: Sandbox) -> None:
    with_orders_nobody_can_confirm(box)
    box.run("systemctl", "stop", SERVICE)
    assert box.show("ExecMainStatus") == str(ExitCode.UNVERIFIED.value)
    assert box.show("Result") == "exit-code"
    assert (box.show("ActiveState"), box.show("SubState")) == ("failed", "failed")
    assert box.show("NRestarts") == "0"


def test_unverified_orders_are_followed_up_by_a_restart(box: Sandbox) -> None:
    with_orders_nobody_can_confirm(box)
    began = box.cursor()
    ask(box, "stop")
    box.wait_unit("EXIT_STATUS", str(ExitCode.UNVERIFIED.value), since=began)
    box.wait_event("instruments not loaded", since=began)
    assert box.show("NRestarts") == "1"


def test_a_start_that_waits_for_the_venue_says_so_and_can_be_stopped(box: Sandbox) -> None:
    box.write(CONFIG, config(embedded=False))
    began = box.cursor()
    box.run("systemctl", "start", "--no-block", SERVICE)
    # Attempts come after 0.1, 0.2, 0.4 ... seconds: the status is older than a second by then.
    box.wait_event("instruments not loaded", since=began, count=6)
    assert box.show("ActiveState") == "activating"
    assert "loading instruments" in box.show("StatusText")
    box.run("systemctl", "stop", SERVICE)
    assert box.show("Result") == "success"


def test_a_wrong_configuration_is_not_tried_again(box: Sandbox) -> None:
    box.write(CONFIG, "bogus = 1\n")
    assert box.call("systemctl", "start", SERVICE).returncode != 0
    assert box.show("ExecMainStatus") == str(ExitCode.CONFIG.value)
    assert (box.show("ActiveState"), box.show("SubState")) == ("failed", "failed")
    assert box.show("NRestarts") == "0"
