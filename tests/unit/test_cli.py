"""The command line: what each command prints, and how it ends."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click
import pytest
import structlog
import trio
from rich.console import Console

from tests.harness.process import daemon_command, free_port
from tests.service.strategy_rig import Rig, config
from zq_daemon import daemon
from zq_daemon.cli import main as cli
from zq_daemon.cli import status as status_command
from zq_daemon.cli.failures import explain
from zq_daemon.cli.main import run_command
from zq_daemon.cli.tables import render_status
from zq_daemon.config.schema import DaemonConfig
from zq_daemon.control.server import serve_control
from zq_daemon.errors import ConfigError, CredentialError, JournalError, LinkError
from zq_daemon.exit_codes import ExitCode
from zq_daemon.strategy.market_maker import MarketMaker
from zq_daemon.version import VERSION

Run = Callable[..., int]
ROOT = Path(__file__).parents[2]

STATUS: Mapping[str, Any] = {
    "daemon": {
        "version": "1.2.3",
        "pid": 77,
        "uptime_s": 12_712.5,
        "state": "running",
        "trading_state": "halted",
        "trading_reason": "daily loss",
        "config": "/etc/zq.toml",
    },
    "links": [
        {"endpoint": "market", "state": "up", "since_s": 4.26, "outage_s": 99, "messages": 2745},
        {
            "endpoint": "account",
            "private": True,
            "state": "backoff",
            "attempt": 3,
            "next_attempt_s": 200_000,
            "last_error": "connection refused",
        },
    ],
    "market": [{"instrument": "hyperliquid.BTC", "bid": "64000", "ask": "64001", "stale": True}],
    "strategies": [
        {
            "name": "cross",
            "state": "faulted",
            "instruments": ["hyperliquid.BTC", "hyperliquid.ETH"],
            "open_orders": 2,
            "positions": {"hyperliquid.BTC": "-0.001", "hyperliquid.ETH": "0"},
            "net_pnl": "-0.5",
            "faults": 1,
            "reason": "ValueError: odd",
        },
        {"name": "maker", "state": "running", "instruments": "all", "net_pnl": "1.5"},
    ],
    "positions": [{"instrument": "hyperliquid.BTC", "quantity": "-0.001", "unrealized_pnl": "0"}],
    "account": {"account": "hyperliquid.0x66", "equity": "10000"},
    "orders": {"open": 2, "in_flight": 1, "closed": 9},
    "bus": {"published": 123, "faults": 0},
    "bad_messages": {"count": 1, "recent": ["what \x1b[31m is this"]},
}

REPLIES = {"stop": "stopping", "halt": "trading is halted", "activate": "trading is active"}


@pytest.fixture(autouse=True)
def _logging_untouched() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Path]:
    """A control socket that answers, in a thread: commands run a Trio of their own."""
    path = tmp_path / "control.sock"
    ready = threading.Event()
    ended: list[Callable[[], None]] = []

    async def serve() -> None:
        replies = {"status": STATUS, **REPLIES}
        handlers = {name: lambda _, reply=reply: reply for name, reply in replies.items()}
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve_control, path, handlers, 4))
            token = trio.lowlevel.current_trio_token()
            ended.append(partial(token.run_sync_soon, nursery.cancel_scope.cancel))
            ready.set()

    thread = threading.Thread(target=partial(trio.run, serve))
    thread.start()
    assert ready.wait(10)
    yield path
    ended[0]()
    thread.join()


def drawn(status: Any, width: int = 120) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(render_status(status))
    return out.getvalue()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["version"]) == ExitCode.OK
    assert capsys.readouterr().out == f"{VERSION}\n"


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--help"]) == ExitCode.OK
    out = capsys.readouterr().out
    for name in ("run", "check", "exchange", "status", "stop", "version"):
        assert f"  {name} " in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["fly"],
        ["run", "--fast"],
        ["exchange"],
        ["exchange", "--port", "70000"],
        ["exchange", "--port", "1", "--speed", "-1"],
        ["exchange", "--port", "1", "--speed", "much"],
        ["exchange", "--port", "1", "--seed", "1", "--replay", "x"],
        ["exchange", "--port", "1", "--seed", "1", "--follow", "http://x"],
        ["exchange", "--port", "1", "--queue", "middle"],
        ["exchange", "--port", "1", "--order-latency-ms", "60001"],
        ["exchange", "--port", "1", "--balance", "-1"],
    ],
)
def test_a_wrong_command_line_is_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(arguments) == ExitCode.USAGE
    assert "Error: " in capsys.readouterr().err


def test_a_bad_configuration_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.toml"
    path.write_text("bogus = 1\nstate_dir = 1\n")
    for command in ("run", "check", "status", "stop"):
        assert run_command([command, "--config", str(path)]) == ExitCode.CONFIG
        lines = capsys.readouterr().err.splitlines()
        assert [line.split(" ")[0] for line in lines] == [f"{path}:1:", f"{path}:2:"]


def test_the_configuration_can_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZQ_DAEMON_CONFIG", str(tmp_path / "none.toml"))
    assert run_command(["check"]) == ExitCode.CONFIG
    assert f"{tmp_path / 'none.toml'}: no such file" in capsys.readouterr().err


def test_a_file_that_may_not_be_read_is_a_wrong_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    path = tmp_path / "c.toml"
    path.touch()
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    monkeypatch.setattr(Path, "open", refuse)
    assert run_command(["check", "--config", str(path)]) == ExitCode.CONFIG
    assert capsys.readouterr().err == f"{path}: cannot be read: Permission denied\n"


def test_the_example_is_sound(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["check", "--config", str(ROOT / "config.toml.example")]) == ExitCode.OK
    out = capsys.readouterr().out
    assert out.endswith("sound: 2 endpoints, 2 strategies, on the embedded exchange\n")


def test_check_counts_what_is_enabled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.toml"
    table = (ROOT / "config.toml.example").read_text()
    path.write_text(table.replace('name = "maker"', 'name = "maker"\nenabled = false'))
    assert run_command(["check", "--config", str(path)]) == ExitCode.OK
    assert "sound: 2 endpoints, 1 strategy, on the" in capsys.readouterr().out


STRATEGY = """
from attrs import frozen
from zq_daemon.strategy.base import Strategy

class Mine(Strategy):
    @frozen
    class Params:
        size: int = 1
"""


def test_check_tells_of_streams_strategies_and_parameters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "check_mine.py").write_text(STRATEGY)
    path = tmp_path / "c.toml"
    path.write_text(
        '[[ws_endpoints]]\nurl = "ws://h"\nstreams = ["trade:BTC"]\n'
        '[[strategies]]\nname = "a"\nuse = "check_nowhere:C"\ninstruments = ["hyperliquid.BTC"]\n'
        '[[strategies]]\nname = "b"\nuse = "check_mine:Mine"\ninstruments = ["hyperliquid.BTC"]\n'
        'path = "."\nparams = { sise = 2 }\n'
    )
    assert run_command(["check", "--config", str(path)]) == ExitCode.CONFIG
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"{path}:3: ws_endpoints[0].streams[0]: stream 'trade:BTC'")
    assert lines[1].startswith(f"{path}:6: strategies[0].use: strategy a: no module named")
    assert lines[2] == f"{path}:13: strategies[1].params.sise: unknown key; did you mean 'size'?"


def test_check_tells_everything_at_once_whatever_else_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.toml"
    path.write_text(
        'tick_interval = 1\nws_endpoints = [{ streams = ["trade:BTC", 7] }, 3]\n'
        '[[strategies]]\nname = "a"\nuse = "check_nowhere:C"\n'
        '[[strategies]]\nname = 5\nuse = "check_nowhere:C"\n'
        '[[strategies]]\nname = "b"\nuse = "check_nowhere"\n'
    )
    assert run_command(["check", "--config", str(path)]) == ExitCode.CONFIG
    said = capsys.readouterr().err
    assert "c.toml:1: tick_interval: unknown key; did you mean 'tick_interval_ms'?" in said
    assert "c.toml:2: ws_endpoints[0].streams[0]: stream 'trade:BTC'" in said
    assert "c.toml:2: ws_endpoints[0].streams[1]: expected a string" in said
    assert "c.toml:2: ws_endpoints[1]: expected a table" in said
    assert "c.toml:5: strategies[0].use: strategy a: no module named" in said
    assert said.count("no module named") == 1


def test_check_looks_at_the_key_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "key"
    key.write_text("0x00")
    key.chmod(0o644)
    path = tmp_path / "c.toml"
    path.write_text('[venues.hyperliquid]\nkey_file = "key"\n')
    assert run_command(["check", "--config", str(path)]) == ExitCode.CREDENTIALS
    assert "chmod 600" in capsys.readouterr().err
    key.chmod(0o600)
    assert run_command(["check", "--config", str(path)]) == ExitCode.CREDENTIALS
    assert f"secret {key}: agent key: expected 64 hexadecimal digits" in capsys.readouterr().err


def test_check_tells_who_signs_for_whom(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "key"
    key.write_text(f"{7:064x}")
    key.chmod(0o600)
    path = tmp_path / "c.toml"
    path.write_text('[venues.hyperliquid]\nkey_file = "key"\n')
    assert run_command(["check", "--config", str(path)]) == ExitCode.CONFIG
    said = capsys.readouterr().err
    assert said.startswith(f"{path}:1: venues.hyperliquid.account: needed beside the agent key")
    agent = "0xd41c057fd1c78805aac12b0a94a405c0461a6fbb"
    assert agent in said
    account = f"0x{0xAC:040x}"
    path.write_text(f'[venues.hyperliquid]\nkey_file = "key"\naccount = "{account}"\n')
    assert run_command(["check", "--config", str(path)]) == ExitCode.OK
    expected = f"orders of {account} on mainnet, signed by {agent}\n"
    assert expected in capsys.readouterr().out
    path.write_text(f'[venues.hyperliquid]\naccount = "{account}"\n')
    assert run_command(["check", "--config", str(path)]) == ExitCode.OK
    assert "it cannot trade" in capsys.readouterr().out


def test_run_starts_nothing_that_check_would_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(daemon, "run", lambda *_, **__: pytest.fail("it was started"))
    path = tmp_path / "c.toml"
    path.write_text('[[ws_endpoints]]\nurl = "ws://h"\nstreams = ["trade:BTC"]\n')
    assert run_command(["run", "--config", str(path)]) == ExitCode.CONFIG
    assert f"{path}:3: ws_endpoints[0].streams[0]" in capsys.readouterr().err


def test_run_hands_the_daemon_its_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[DaemonConfig, Path | None]] = []

    def run(config: DaemonConfig, *, config_path: Path | None = None) -> ExitCode:
        started.append((config, config_path))
        return ExitCode.UNVERIFIED

    monkeypatch.setattr(daemon, "run", run)
    path = tmp_path / "c.toml"
    path.write_text("tick_interval_ms = 7\n")
    monkeypatch.chdir(tmp_path)
    for given in (str(path), "c.toml"):
        assert run_command(["run", "--config", given]) == ExitCode.UNVERIFIED
    assert [(config.tick_interval_ms, where) for config, where in started] == [(7, path)] * 2


def test_main_exits_with_the_commands_code(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["version"])
    assert caught.value.code == ExitCode.OK


def test_an_interrupt_at_the_prompt_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    def abort(*_: object, **__: object) -> None:
        raise click.Abort

    monkeypatch.setattr(cli.commands, "main", abort)
    assert run_command(["version"]) == ExitCode.OK


def test_a_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ExceptionGroup("", [ConfigError("x"), ZeroDivisionError()])

    monkeypatch.setattr(cli.commands, "main", fail)
    with pytest.raises(ExceptionGroup):
        run_command(["version"])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("a"), ExitCode.CONFIG),
        (ExceptionGroup("", [LinkError("a"), CredentialError("b")]), ExitCode.CREDENTIALS),
        (ExceptionGroup("", [LinkError("a"), LinkError("a")]), ExitCode.UNAVAILABLE),
        (JournalError("a"), ExitCode.SOFTWARE),
    ],
)
def test_errors_on_purpose_have_their_codes(error: Exception, code: ExitCode) -> None:
    told = explain(error)
    assert told is not None
    assert told[1] == code
    assert told[0] in ("a", "a\nb")


def test_status_is_drawn(running: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["status", "--socket", str(running)]) == ExitCode.OK
    assert "zq-daemon 1.2.3  running  halted  up 3h31m  pid 77" in capsys.readouterr().out


def test_status_finds_the_socket_by_the_configuration(
    running: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = running.parent / "c.toml"
    path.write_text('state_dir = "."\n')
    assert run_command(["status", "--config", str(path), "--json"]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out) == STATUS


@pytest.mark.parametrize("command", ["stop", "halt", "activate"])
def test_the_daemon_is_asked(
    command: str, running: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command([command, "--socket", str(running)]) == ExitCode.OK
    assert capsys.readouterr().out == f"{REPLIES[command]}\n"


@pytest.mark.parametrize("arguments", [["status"], ["status", "--watch"], ["stop"]])
def test_no_daemon_is_unavailable(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run_command([*arguments, "--socket", str(tmp_path / "none")])
    assert code == ExitCode.UNAVAILABLE
    assert capsys.readouterr().err == f"no daemon at {tmp_path / 'none'}: no such socket\n"


def test_everything_the_daemon_sent_is_in_the_tables() -> None:
    text = drawn(STATUS)
    for part in (
        "daily loss",
        "4.3s",
        "1m39s",
        "attempt 3 in 2d07h: connection refused",
        "64001",
        "stale",
        "BTC, ETH",
        "BTC -0.001",
        "ValueError: odd",
        "hyperliquid.0x66",
        "open orders 2  in flight orders 1  closed orders 9",
        "what \\x1b[31m is this",
    ):
        assert part in text
    assert "\x1b" not in text


def test_strategies_are_drawn_as_the_host_tells_of_them() -> None:
    rig = Rig()
    terms = {"quantity": 1, "max_position": 2}
    rig.load(config(MarketMaker, params=terms))
    rig.host.start()
    rig.tick()
    for order in rig.submitted:
        rig.accept(order)
    row = drawn({"strategies": rig.host.status()}).splitlines()[5].split()
    assert row == ["mine", "running", "BTC", "2", "flat", "0", "0"]


def test_positions_that_differ_are_told() -> None:
    differences = {"hyperliquid.0x66": "hyperliquid.BTC: ours 1, venue's 0"}
    text = drawn({"execution": {"position_differences": differences}})
    assert "positions differ from the venue's: hyperliquid.BTC: ours 1, venue's 0" in text


def test_a_key_that_is_near_its_end_is_told() -> None:
    assert "0xb expires in 3 days" in drawn({"credentials": {"problem": "0xb expires in 3 days"}})


def test_a_narrow_terminal_keeps_every_column() -> None:
    assert "net P&L" in drawn(STATUS, width=80)


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"links": 5, "daemon": [], "market": [1], "bad_messages": {"recent": 7}},
        {"strategies": [{}], "positions": [{"fees": [1]}], "links": [{"since_s": "soon"}]},
    ],
)
def test_missing_and_odd_parts_are_left_out(status: Any) -> None:
    assert "zq-daemon" in drawn(status)


def test_no_status_is_said() -> None:
    assert "the daemon sent no status" in drawn(None)


def spawn(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        daemon_command(*arguments),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str], number: int) -> int:
    process.send_signal(number)
    process.communicate(timeout=30)
    return process.returncode


def test_watch_prints_until_interrupted(running: Path) -> None:
    process = spawn("status", "--watch", "--json", "--socket", str(running))
    assert process.stdout is not None
    assert [json.loads(process.stdout.readline()) for _ in range(2)] == [STATUS, STATUS]
    assert ended(process, signal.SIGINT) == ExitCode.OK


class Screen(io.StringIO):
    """Tells when the message of a missing daemon is on it."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = trio.Event()

    def write(self, text: str) -> int:
        if "waiting for it" in text:
            self.waiting.set()
        return super().write(text)


async def test_watch_redraws_and_waits_for_a_daemon_that_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten milliseconds instead of a second; each drawing is one answer of ours."""
    monkeypatch.setattr(status_command, "_INTERVAL_S", 0.01)
    screen = Screen()
    out = Console(file=screen, force_terminal=True, width=120)
    monkeypatch.setattr(status_command, "_console", lambda: out)
    path = tmp_path / "control.sock"
    asked = trio.Event()

    def answer(_: object) -> Mapping[str, Any]:
        asked.set()
        return STATUS

    async with trio.open_nursery() as nursery:
        nursery.start_soon(status_command.redraw, path, STATUS)
        async with trio.open_nursery() as serving:
            await serving.start(partial(serve_control, path, {"status": answer}, 4))
            await asked.wait()
            serving.cancel_scope.cancel()
        await screen.waiting.wait()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_exchange_serves_until_a_signal(number: int) -> None:
    port = free_port()
    process = spawn("exchange", "--port", str(port), "--seed", "1")
    assert process.stderr is not None
    assert json.loads(process.stderr.readline())["event"] == "exchange open"
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(8) == b"HTTP/1.1"
    assert ended(process, number) == ExitCode.OK


def test_a_taken_port_is_unavailable(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert run_command(["exchange", "--port", str(port)]) == ExitCode.UNAVAILABLE
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err


def test_a_capture_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["exchange", "--port", str(free_port()), "--replay", __file__]
    assert run_command(arguments) == ExitCode.CONFIG
    assert "holds no market data" in capsys.readouterr().err


def test_check_warns_of_what_does_not_fit_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "c.toml"
    path.write_text("")
    assert run_command(["check", "--config", str(path)]) == ExitCode.OK
    assert "warning: there is no [[ws_endpoints]]" in capsys.readouterr().out


def test_the_version_is_also_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["--version"]) == ExitCode.OK
    assert capsys.readouterr().out.startswith("zq-daemon ")


def test_budgets_are_shown_with_the_limits_that_are_known() -> None:
    budgets = {"weight_used": 196, "weight_limit": 1200, "messages_used": 8, "messages_limit": None}
    shown = drawn({"budgets": {**budgets, "actions_used": None, "refused": 3, "waiting_s": 2.5}})
    assert "weight 196 of 1200  messages 8 of any number  refused 3  " in shown
    assert "nothing is sent for 2.5s" in shown
    assert "Budgets" not in drawn({"budgets": {}})


def test_missing_faults_are_asked_for_by_their_own_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "none.toml"
    arguments = ["exchange", "--port", str(free_port()), "--faults", str(path)]
    assert run_command(arguments) == ExitCode.CONFIG
    assert f"{path}: no such file; name another with --faults\n" in capsys.readouterr().err


def test_what_needs_a_restart_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    status = {"daemon": {"state": "starting", "needs_restart": ["state_dir"]}}
    Console(width=100).print(render_status(status))
    shown = capsys.readouterr().out
    assert "needs a restart: state_dir" in shown
    assert "bad messages" not in shown
