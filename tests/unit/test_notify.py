"""The supervisor port: what a real datagram socket gets, and what a hostile environment says."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from zq_daemon.ports.notify import (
    MAX_MESSAGE_BYTES,
    MemoryNotify,
    Notify,
    SystemNotify,
    encode,
    no_notify,
    system_notify,
)

OURS = str(os.getpid())


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(10)
        yield sock


def environment(supervisor: socket.socket, **more: str) -> dict[str, str]:
    return {"NOTIFY_SOCKET": supervisor.getsockname(), "HOME": "/", **more}


def test_one_message_is_one_datagram(supervisor: socket.socket) -> None:
    notify = SystemNotify(supervisor.getsockname())
    assert notify.send({"READY": "1", "STATUS": "trading, 2 strategies"})
    assert notify.send({"STATUS": "a=b — ☃"})
    assert supervisor.recv(8192) == b"READY=1\nSTATUS=trading, 2 strategies"
    assert supervisor.recv(8192).decode() == "STATUS=a=b — ☃"
    assert notify.lost == 0


def test_an_abstract_name_is_understood() -> None:
    name = f"zq-notify-test-{OURS}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}")
        sock.settimeout(10)
        assert SystemNotify(f"@{name}").send({"WATCHDOG": "1"})
        assert sock.recv(8192) == b"WATCHDOG=1"


def test_a_supervisor_that_is_gone_is_counted_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "notify"
    notify = SystemNotify(str(path))
    assert not notify.send({"WATCHDOG": "1"})
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        assert notify.send({"WATCHDOG": "1"})
    assert not notify.send({"WATCHDOG": "1"})  # the file is there, nobody listens
    path.unlink()
    path.write_text("not a socket")
    assert not notify.send({"WATCHDOG": "1"})
    assert notify.lost == 3


def test_a_supervisor_that_does_not_read_blocks_nobody(supervisor: socket.socket) -> None:
    notify = SystemNotify(supervisor.getsockname())
    sent = 0
    while notify.send({"STATUS": "x" * 1000}):
        sent += 1
        assert sent < 100_000
    assert sent > 0
    assert notify.lost == 1
    supervisor.recv(8192)
    assert notify.send({"STATUS": "room again"})


def test_no_descriptor_left_is_a_loss_like_any_other(
    supervisor: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    notify = SystemNotify(supervisor.getsockname())
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        assert not notify.send({"WATCHDOG": "1"})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert notify.lost == 1


@pytest.mark.parametrize("notify", [MemoryNotify(), no_notify(), SystemNotify("@nobody-is-here")])
@pytest.mark.parametrize("value", ["fine\nREADY=1", "x" * MAX_MESSAGE_BYTES])
def test_what_would_say_something_else_is_refused(notify: Notify, value: str) -> None:
    with pytest.raises(ValueError, match=r"lines|bytes"):
        notify.send({"STATUS": value})


def test_what_has_no_utf8_form_is_replaced() -> None:
    assert encode({"STATUS": "a\udc80b"}) == b"STATUS=a?b"


def test_the_environment_is_read_once_and_inherited_by_nobody(supervisor: socket.socket) -> None:
    environ = environment(supervisor, WATCHDOG_USEC="30000000", WATCHDOG_PID=OURS)
    notify = system_notify(environ)
    assert isinstance(notify, SystemNotify)
    assert (notify.watchdog_us, notify.oddities) == (30_000_000, ())
    assert environ == {"HOME": "/"}
    again = system_notify(environ)
    assert again.watchdog_us is None
    assert again.send({"READY": "1"})
    assert notify.send({"WATCHDOG": "1"})
    assert supervisor.recv(8192) == b"WATCHDOG=1"  # and nothing of the second


def test_the_process_own_environment_is_what_is_read(
    supervisor: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(supervisor, WATCHDOG_USEC="5").items():
        monkeypatch.setenv(name, value)
    assert system_notify().watchdog_us == 5
    assert {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}.isdisjoint(os.environ)


@pytest.mark.parametrize(
    "environ", [{}, {"NOTIFY_SOCKET": ""}, {"WATCHDOG_USEC": "5"}], ids=["bare", "empty", "half"]
)
def test_without_a_socket_there_is_nobody_to_tell(environ: dict[str, str]) -> None:
    notify = system_notify(environ)
    assert notify.send({"READY": "1"})
    assert (notify.watchdog_us, notify.lost, notify.oddities) == (None, 0, ())
    assert "WATCHDOG_USEC" not in environ


@pytest.mark.parametrize(
    "address",
    ["relative/path", "vsock:2:1234", "@", "/", "/has\0zero", "@" + "x" * 107, "/" + "ü" * 60],
)
def test_an_address_that_makes_no_sense_is_told_and_not_used(address: str) -> None:
    notify = system_notify({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "5"})
    assert notify.watchdog_us is None
    assert notify.send({"READY": "1"})
    (oddity,) = notify.oddities
    assert oddity.startswith("NOTIFY_SOCKET")
    assert len(oddity) < 250
    with pytest.raises(ValueError, match="NOTIFY_SOCKET"):
        SystemNotify(address)


@pytest.mark.parametrize(
    "text",
    ["", "0", "-5", "+5", " 5", "5\n", "5_0", "1e6", "٣", "5.0", "x", "9" * 5000, str(2**64 - 1)],
)
@pytest.mark.parametrize("name", ["WATCHDOG_USEC", "WATCHDOG_PID"])
def test_a_watchdog_that_makes_no_sense_is_told_and_not_fed(
    name: str, text: str, supervisor: socket.socket
) -> None:
    given: Mapping[str, str] = {"WATCHDOG_USEC": "5", "WATCHDOG_PID": OURS, name: text}
    notify = system_notify(environment(supervisor, **given))
    assert notify.watchdog_us is None
    (oddity,) = notify.oddities
    assert oddity.startswith(name)
    assert len(oddity) < 200
    assert notify.send({"READY": "1"})
    assert supervisor.recv(8192) == b"READY=1"


def test_a_watchdog_of_another_process_is_not_ours(supervisor: socket.socket) -> None:
    other = str(os.getpid() + 1)
    notify = system_notify(environment(supervisor, WATCHDOG_USEC="5", WATCHDOG_PID=other))
    assert (notify.watchdog_us, notify.oddities) == (None, ())
