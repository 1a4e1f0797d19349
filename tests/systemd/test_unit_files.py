"""The unit files: what has to be in them, and what systemd, where there is one, says of them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import pytest

from zq_daemon.cli.main import commands
from zq_daemon.config.schema import DaemonConfig, HyperliquidConfig
from zq_daemon.exit_codes import ExitCode

FOLDER = Path(__file__).parents[2] / "systemd"
SERVICE = "zq-daemon.service"
COMPACT = "zq-daemon-compact.service"
TIMER = "zq-daemon-compact.timer"
PROGRAM = "/opt/zq-daemon/bin/zq-daemon"
CONFIG = "/etc/zq-daemon/config.toml"
MAX_EXPOSURE = 15
"""Of `systemd-analyze security`, in tenths."""

Section = Mapping[str, Sequence[str]]

HARDENING = {
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "DevicePolicy": "closed",
    "PrivateUsers": "yes",
    "PrivateMounts": "yes",
    "PrivateIPC": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectControlGroups": "yes",
    "ProtectClock": "yes",
    "ProtectHostname": "yes",
    "ProtectProc": "invisible",
    "ProcSubset": "pid",
    "NoNewPrivileges": "yes",
    "CapabilityBoundingSet": "",
    "AmbientCapabilities": "",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "SystemCallArchitectures": "native",
    "SystemCallErrorNumber": "EPERM",
    "NoExecPaths": "/",
    "KeyringMode": "private",
    "UMask": "0077",
    "LimitCORE": "0",
}


def read_unit(text: str) -> dict[str, dict[str, list[str]]]:
    """A unit's sections; each key with its values in order, since systemd adds some of them up."""
    sections: dict[str, dict[str, list[str]]] = {}
    section: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
        elif line.strip() and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            section.setdefault(key, []).append(value)
    return sections


def unit(name: str) -> dict[str, dict[str, list[str]]]:
    return read_unit((FOLDER / name).read_text())


def only(section: Section, key: str) -> str:
    (value,) = section[key]
    return value


def seconds(value: str) -> float:
    number, unit_of_time = re.fullmatch(r"(\d+)(s|min|h)", value).groups()  # type: ignore[union-attr]
    return float(number) * {"s": 1, "min": 60, "h": 3600}[unit_of_time]


@pytest.fixture
def service() -> Section:
    return unit(SERVICE)["Service"]


def test_readiness_is_told_by_the_daemon_alone(service: Section) -> None:
    assert only(service, "Type") == "notify"  # notify-reload is simple to systemd 252
    assert only(service, "NotifyAccess") == "main"
    assert seconds(only(service, "WatchdogSec")) == 30


@pytest.mark.parametrize(
    ("name", "key"),
    [(SERVICE, "ExecStart"), (SERVICE, "ExecReload"), (COMPACT, "ExecStart")],
)
def test_the_commands_are_there(name: str, key: str) -> None:
    program, *arguments = only(unit(name)["Service"], key).split()
    assert program == PROGRAM
    assert arguments[-2:] == ["--config", CONFIG]
    command: click.Command = commands
    for word in arguments[:-2]:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    assert any("--config" in parameter.opts for parameter in command.params)


def test_what_a_restart_cannot_mend_is_not_restarted(service: Section) -> None:
    assert only(service, "Restart") == "on-failure"
    prevented = {ExitCode(int(code)) for code in only(service, "RestartPreventExitStatus").split()}
    assert prevented == {ExitCode.USAGE, ExitCode.DATA, ExitCode.CREDENTIALS, ExitCode.CONFIG}
    # An unverified order is a failure, after which recovery asks about it.
    assert "SuccessExitStatus" not in service
    assert "RestartForceExitStatus" not in service


def test_an_outage_at_start_never_uses_up_the_starts(service: Section) -> None:
    about = unit(SERVICE)["Unit"]
    one_start_s = DaemonConfig().start_timeout_ms / 1000 + seconds(only(service, "RestartSec"))
    burst, within_s = int(only(about, "StartLimitBurst")), int(only(about, "StartLimitIntervalSec"))
    assert burst * one_start_s > within_s


def test_stops_and_starts_have_the_time_the_defaults_take(service: Section) -> None:
    config = DaemonConfig()
    start_ms = config.start_timeout_ms + config.connect_timeout_ms
    assert seconds(only(service, "TimeoutStartSec")) > start_ms / 1000
    assert seconds(only(service, "TimeoutStopSec")) >= 10 * config.shutdown_grace_ms / 1000
    assert seconds(only(service, "TimeoutAbortSec")) <= seconds(only(service, "WatchdogSec"))
    assert only(service, "KillMode") == "mixed"


@pytest.mark.parametrize("name", [SERVICE, COMPACT])
def test_both_units_are_hardened_in_full(name: str) -> None:
    section = unit(name)["Service"]
    assert {key: only(section, key) for key in HARDENING if key in section} == HARDENING
    assert section["SystemCallFilter"] == ["@system-service", "~@privileged @resources"]
    assert PROGRAM.startswith(only(section, "ExecPaths").split()[0])


def test_the_compaction_is_as_confined_as_the_daemon(service: Section) -> None:
    compact = unit(COMPACT)["Service"]
    for key in ("ExecPaths", "RemoveIPC", "User", "Group", "StateDirectory", "StateDirectoryMode"):
        assert compact[key] == service[key], key
    assert only(compact, "Type") == "oneshot"
    assert only(compact, "PrivateNetwork") == "yes"
    # systemd removes a runtime folder when the unit ends: the daemon's sockets with it.
    assert "RuntimeDirectory" not in compact


def test_the_user_stays(service: Section) -> None:
    """DynamicUser= implies RemoveIPC=: shared memory would be deleted at each stop."""
    assert (only(service, "User"), only(service, "Group")) == ("zq", "zq")
    assert "DynamicUser" not in service
    assert only(service, "RemoveIPC") == "no"
    made = (FOLDER / "zq-daemon.sysusers.conf").read_text()
    lines = [line for line in made.splitlines() if line and not line.startswith("#")]
    assert lines == ['u zq - "zq-daemon" /var/lib/zq-daemon /usr/sbin/nologin']


def test_folders_are_private_and_the_key_is_a_credential(service: Section) -> None:
    for kind in ("State", "Runtime"):
        assert only(service, f"{kind}Directory") == "zq-daemon"
        assert only(service, f"{kind}DirectoryMode") == "0700"
    name, path = only(service, "LoadCredential").split(":")
    assert name == HyperliquidConfig().key_credential
    assert path == "/etc/zq-daemon/agent.key"


def test_logs_are_not_thrown_away(service: Section) -> None:
    assert seconds(only(service, "LogRateLimitIntervalSec")) == 1  # 0 is the default, not off
    assert int(only(service, "LogRateLimitBurst")) >= 10_000


def test_a_hung_daemon_leaves_a_trace(service: Section) -> None:
    assert only(service, "Environment") == "PYTHONFAULTHANDLER=1"
    assert "WatchdogSignal" not in service  # SIGABRT, at which Python writes it


def test_compaction_is_daily_and_made_up_for() -> None:
    timer = unit(TIMER)
    assert only(timer["Timer"], "OnCalendar") == "daily"
    assert only(timer["Timer"], "Persistent") == "true"
    assert "Unit" not in timer["Timer"]  # the service of the same name
    assert only(timer["Install"], "WantedBy") == "timers.target"
    assert only(unit(SERVICE)["Install"], "WantedBy") == "multi-user.target"


def test_the_page_beside_the_units_names_their_paths(service: Section) -> None:
    page = (FOLDER / "README.md").read_text()
    installed = [
        "/opt/zq-daemon",
        CONFIG,
        only(service, "LoadCredential").split(":")[1],
        "/var/lib/" + only(service, "StateDirectory"),
        "/run/" + only(service, "RuntimeDirectory"),
        *(path.name for path in FOLDER.iterdir() if path.suffix == ".conf"),
        SERVICE,
        TIMER,
    ]
    assert [path for path in installed if path not in page] == []


@pytest.fixture
def analyze(tmp_path: Path) -> Path:
    """A folder with the units, whose program is one that every machine has."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not on this machine")
    for name in (SERVICE, COMPACT, TIMER):
        text = (FOLDER / name).read_text()
        (tmp_path / name).write_text(text.replace(f"={PROGRAM} ", f"={shutil.which('true')} "))
    return tmp_path


def verify(folder: Path) -> str:
    """What `systemd-analyze verify` complains of: it exits with 0 all the same."""
    paths = [str(folder / name) for name in (SERVICE, COMPACT, TIMER)]
    return _run("systemd-analyze", "verify", *paths).stderr


def test_systemd_understands_every_line(analyze: Path) -> None:
    assert verify(analyze) == ""


def test_systemd_would_say_what_it_does_not_understand(analyze: Path) -> None:
    with (analyze / SERVICE).open("a") as file:
        file.write("[Service]\nProtectSistem=strict\n")
    assert "ProtectSistem" in verify(analyze)


@pytest.mark.parametrize("name", [SERVICE, COMPACT])
def test_little_is_exposed(name: str, analyze: Path) -> None:
    limit = f"--threshold={MAX_EXPOSURE}"
    command = ("systemd-analyze", "security", "--offline=true", "--no-pager", limit)
    checked = _run(*command, str(analyze / name))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    (analyze / name).write_text("[Service]\nExecStart=/bin/true\n")
    assert _run(*command, str(analyze / name)).returncode != 0


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
