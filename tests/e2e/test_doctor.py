"""`zq-daemon doctor` as a process, against an embedded exchange in another one."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tests.harness.process import daemon_command, demo_config, free_port, running_command
from zq_daemon.exit_codes import ExitCode
from zq_daemon.journal.files import FOLDER
from zq_daemon.log.segment import segment_name
from zq_daemon.venue.hyperliquid.sign import AgentKey

_SECRET = "4f1d" * 16


def _write(folder: Path, port: int, *, account: str | None = None) -> Path:
    """A daemon's configuration for an exchange of its own at *port*, which it does not embed."""
    key_file = folder / "agent.key"
    key_file.write_text(f"{_SECRET}\n")
    key_file.chmod(0o600)
    account = account or AgentKey(bytes.fromhex(_SECRET)).address
    text = (
        demo_config(port)
        .replace("enabled = true", "enabled = false")
        .replace(
            "[venues.hyperliquid]",
            f'[venues.hyperliquid]\naccount = "{account}"\nkey_file = "agent.key"',
        )
    )
    path = folder / "config.toml"
    path.write_text(text)
    return path


async def _doctor(path: Path) -> tuple[int, dict[str, str]]:
    """Its exit code, and the first line about each thing."""
    with trio.fail_after(45):
        done = await trio.run_process(
            daemon_command("doctor", "--config", str(path)),
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
            cwd=Path(__file__).parents[2],
        )
    found: dict[str, str] = {}
    for line in done.stdout.decode().splitlines():
        mark, about, *rest = line.split(maxsplit=2)
        found.setdefault(about, f"{mark} {' '.join(rest)}")
    return done.returncode, found


@asynccontextmanager
async def _exchange(folder: Path, port: int, faults: str = "") -> AsyncIterator[None]:
    (folder / "faults.toml").write_text(faults)
    arguments = ["exchange", "--port", str(port), "--faults", str(folder / "faults.toml")]
    async with running_command(arguments, folder) as exchange:
        await exchange.wait_event("exchange open")
        yield


async def test_where_all_is_well_each_line_says_ok(tmp_path: Path) -> None:
    port = free_port()
    path = _write(tmp_path, port)
    async with _exchange(tmp_path, port):
        code, found = await _doctor(path)
    assert {about: line[:2] for about, line in found.items()} == dict.fromkeys(
        ("config", "disk", "journal", "daemon", "venue", "clock", "credentials", "budget"), "ok"
    ), found
    assert code == ExitCode.OK
    assert "not running" in found["daemon"]
    assert "the account's own key" in found["credentials"]
    assert not (tmp_path / "var").exists()


async def test_what_is_wrong_is_told_with_what_to_do(tmp_path: Path) -> None:
    port = free_port()
    path = _write(tmp_path, port, account="0x" + "12" * 20)
    journal = tmp_path / "var" / FOLDER
    journal.mkdir(parents=True)
    (journal / segment_name(1)).write_bytes(b"nonsense" * 100)
    async with _exchange(tmp_path, port, "clock_skew_ms = 5000"):
        code, found = await _doctor(path)
    wrong = {about for about, line in found.items() if line.startswith("DO ")}
    assert wrong == {"journal", "clock", "credentials"}, found
    assert code == ExitCode.ATTENTION
    assert "zq-daemon journal verify" in found["journal"]
    assert "behind the venue's" in found["clock"]


async def test_a_venue_that_is_not_there_and_an_open_key_file_are_told(tmp_path: Path) -> None:
    path = _write(tmp_path, free_port())
    code, found = await _doctor(path)
    assert code == ExitCode.ATTENTION
    assert found["venue"].startswith("DO ")
    (tmp_path / "agent.key").chmod(0o644)
    code, found = await _doctor(path)
    assert code == ExitCode.ATTENTION
    assert found.keys() == {"credentials"}
    assert "chmod 600" in found["credentials"]


async def test_every_problem_of_the_configuration_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("state_dri = 'x'\ntick_interval_ms = -1\n")
    code, found = await _doctor(path)
    assert (code, list(found)) == (ExitCode.ATTENTION, ["config"])


async def test_beside_a_running_daemon_its_links_and_its_own_exchange_are_seen(
    tmp_path: Path,
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(demo_config(free_port()))
    code, found = await _doctor(path)
    assert (code, found["venue"][:11]) == (ExitCode.OK, "ok embedded")
    async with running_command(["run", "--config", str(path)], tmp_path) as daemon:
        await daemon.wait_event("running")
        code, found = await _doctor(path)
        assert code == ExitCode.OK, str(found)
        assert found["daemon"] == "ok running, trading active"
        assert found["link"] == "ok market is up"
        assert found["venue"].startswith("ok hyperliquid lists")
        assert "sound up to record" in found["journal"]
