"""What doctor says of each thing it looks at; the process as a whole is tested end to end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.harness.fake_venue import FakeVenue
from zq_daemon.assembly import system_ports
from zq_daemon.cli import doctor
from zq_daemon.cli.doctor import Finding
from zq_daemon.config.schema import DaemonConfig, WsEndpointConfig
from zq_daemon.errors import CredentialError, LinkError
from zq_daemon.ports.probe import FolderProbe
from zq_daemon.venue.interface import ClockSkew, Credentials

SECOND = 1_000_000_000
DAY = 86_400 * SECOND


class Venue(FakeVenue):
    """A fake whose answers a test sets; an exception is raised."""

    def __init__(self, **answers: Any) -> None:
        super().__init__()
        self.answers: dict[str, Any] = {
            "measure_clock": ClockSkew(ahead_ns=0, error_ns=0),
            "actions_left": 5_000,
            "check_credentials": Credentials(account="0xa", signer="0xb", relation="agent"),
        } | answers

    async def measure_clock(self) -> ClockSkew:
        found: ClockSkew = self._answer("measure_clock")
        return found

    async def actions_left(self) -> int | None:
        found: int | None = self._answer("actions_left")
        return found

    async def check_credentials(self) -> Credentials | None:
        found: Credentials | None = self._answer("check_credentials")
        return found

    def _answer(self, name: str) -> Any:
        found = self.answers[name]
        if isinstance(found, Exception):
            raise found
        return found


async def findings(folder: Path, **answers: Any) -> dict[str, Finding]:
    endpoint = WsEndpointConfig(url="ws://exchange/ws", streams=("orderUpdates",))
    config = DaemonConfig(state_dir=str(folder), ws_endpoints=(endpoint,))
    asked = doctor._ask_venue(config, system_ports(config), Venue(**answers))
    return {each.about: each async for each in asked}


@pytest.mark.virtual
async def test_a_sound_venue_is_ok(tmp_path: Path) -> None:
    found = await findings(tmp_path)
    assert list(found) == ["venue", "clock", "credentials", "budget"]
    assert all(each.ok for each in found.values())
    assert str(found["budget"]) == "ok  budget       5000 actions are left to the account"


@pytest.mark.virtual
@pytest.mark.parametrize(
    ("ahead_s", "error_s", "ok", "told"),
    [
        (0.9, 0, True, "0.900 s ahead of the venue's"),
        (1.5, 0.6, True, "(to 0.600 s)"),
        (1.5, 0.1, False, "set it right"),
        (-1.2, 0, False, "1.200 s behind the venue's"),
    ],
)
async def test_a_clock_may_differ_by_what_cannot_be_measured(
    tmp_path: Path, ahead_s: float, error_s: float, ok: bool, told: str
) -> None:
    skew = ClockSkew(ahead_ns=round(ahead_s * SECOND), error_ns=round(error_s * SECOND))
    clock = (await findings(tmp_path, measure_clock=skew))["clock"]
    assert clock.ok is ok
    assert told in clock.text


@pytest.mark.virtual
@pytest.mark.parametrize(("days", "ok"), [(13.9, False), (14.1, True), (-1, False)])
async def test_an_agent_near_its_end_is_to_be_replaced(
    tmp_path: Path, days: float, ok: bool
) -> None:
    now_ns = system_ports(DaemonConfig()).clock.now_ns()
    credentials = Credentials(
        account="0xa", signer="0xb", relation="agent", valid_until_ns=now_ns + round(days * DAY)
    )
    found = (await findings(tmp_path, check_credentials=credentials))["credentials"]
    assert found.ok is ok
    assert f"for {days:.1f} more days" in found.text


@pytest.mark.virtual
@pytest.mark.parametrize(("left", "ok"), [(999, False), (-5, False), (1_000, True), (None, True)])
async def test_a_small_budget_is_told(tmp_path: Path, left: int | None, ok: bool) -> None:
    assert (await findings(tmp_path, actions_left=left))["budget"].ok is ok


@pytest.mark.virtual
async def test_what_the_venue_does_not_answer_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    found = await findings(
        tmp_path, measure_clock=LinkError("503"), actions_left=LinkError("no answer")
    )
    assert [(each.about, each.ok) for each in found.values()] == [
        ("venue", True),
        ("clock", False),
        ("credentials", True),
        ("budget", False),
    ]
    wrong = await findings(tmp_path, check_credentials=CredentialError("0xb is no agent"))
    assert wrong["credentials"] == Finding("credentials", False, "0xb is no agent")


@pytest.mark.parametrize(
    ("free", "sync_ms", "oks"),
    [(2 << 30, 1, [True, True]), (1 << 20, 1, [False, True]), (2 << 30, 80, [True, False])],
)
def test_a_disk_needs_room_and_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, sync_ms: int, oks: list[bool]
) -> None:
    probe = FolderProbe(free_bytes=free, sync_ns=(0, sync_ms * 1_000_000, 10**12))
    monkeypatch.setattr(doctor, "probe_folder", lambda folder: probe)
    found = list(doctor._disk(DaemonConfig(state_dir=str(tmp_path / "new" / "var"))))
    assert [each.ok for each in found] == oks
    assert f"to be made in {tmp_path}" in found[0].text


def test_a_probe_leaves_nothing_behind(tmp_path: Path) -> None:
    config = DaemonConfig(state_dir=str(tmp_path))
    assert len(list(doctor._disk(config))) == 2
    assert os.listdir(tmp_path) == []


def test_a_state_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (found,) = doctor._disk(DaemonConfig(state_dir=str(tmp_path / "file" / "var")))
    assert not found.ok
    assert "Not a directory" in found.text


def test_a_running_daemon_that_is_halted_or_unlinked_is_told() -> None:
    link = {"endpoint": "market", "state": "up", "last_error": ""}
    status = {"daemon": {"state": "running", "trading_state": "active"}, "links": [link]}
    config = DaemonConfig()
    assert all(each.ok for each in doctor._daemon(config, status))
    status["daemon"] = {"state": "running", "trading_state": "halted", "trading_reason": "loss"}
    status["links"] = [link | {"state": "backoff", "last_error": "refused"}]
    daemon, lost = doctor._daemon(config, status)
    assert (daemon.ok, lost.ok) == (False, False)
    assert "loss; then zq-daemon activate" in daemon.text
    assert lost.text == "market is backoff: refused"
