"""What a log line looks like, at which level, and what never is in one."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from decimal import Decimal
from enum import Enum

import msgspec
import pytest
import structlog

from zq_daemon.telemetry.logging import HIDDEN, configure, get_logger, set_level


@pytest.fixture(autouse=True)
def _untouched() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)
    set_level("info")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Colour(Enum):
    RED = "red"


log = get_logger("engine.execution")  # made before configure, as modules do


def logged(out: io.StringIO) -> dict[str, object]:
    found: dict[str, object] = msgspec.json.decode(out.getvalue())
    return found


def test_a_pipe_gets_one_line_of_json_an_event() -> None:
    out = io.StringIO()
    configure("info", stream=out)
    log.info("order accepted", client_order_id="0xab", price=Decimal("1.50"), side=Colour.RED)
    assert out.getvalue().count("\n") == 1
    line = logged(out)
    assert list(line)[:4] == ["timestamp", "level", "logger", "event"]
    assert str(line.pop("timestamp")).endswith("Z")
    assert line == {
        "level": "info",
        "logger": "engine.execution",
        "event": "order accepted",
        "client_order_id": "0xab",
        "price": "1.50",
        "side": "red",
    }


def test_a_terminal_gets_coloured_text() -> None:
    out = Terminal()
    configure("info", stream=out)
    log.info("order accepted", price=Decimal("1.50"))
    assert "order accepted" in out.getvalue()
    assert "\x1b[" in out.getvalue()


def test_text_elsewhere_has_no_colours_and_aligned_events() -> None:
    out = io.StringIO()
    configure("info", "text", out)
    log.info("order accepted", price=Decimal("1.50"), side=Colour.RED)
    log.warning("x", price=1, reason=None)
    first, second = out.getvalue().splitlines()
    assert re.fullmatch(
        r"\d\d:\d\d:\d\d\.\d{3} \[info     ] order accepted +price=1.50 side=red", first
    )
    assert second.endswith(" price=1")
    assert first.index("price=") == second.index("price=")
    assert "\x1b" not in out.getvalue()


def test_json_can_be_asked_for_on_a_terminal() -> None:
    out = Terminal()
    configure("info", "json", out)
    log.info("x")
    assert logged(out)["event"] == "x"


def test_the_level_changes_while_running_also_for_bound_loggers() -> None:
    out = io.StringIO()
    configure("warning", "json", out)
    bound = log.bind(strategy="a")
    for logger in (log, bound):
        logger.info("hidden")
        logger.debug("hidden")
    assert out.getvalue() == ""
    set_level("debug")
    bound.debug("seen")
    assert logged(out)["strategy"] == "a"
    set_level("error")
    bound.warning("hidden")
    assert "hidden" not in out.getvalue()


@pytest.mark.parametrize("style", ["text", "json"])
def test_what_is_named_like_a_secret_is_hidden(style: str) -> None:
    out = io.StringIO()
    configure("info", style, out)  # type: ignore[arg-type]
    nested = {"signature": "5ecret", "deeper": {"agent_key": "5ecret"}, "fine": 1}
    log.info("x", key="5ecret", secret="5ecret", private_thing="5ecret", part=nested, PASSWORD=5)
    assert "5ecret" not in out.getvalue()
    assert out.getvalue().count(HIDDEN) == 6


def raised() -> Exception:
    private_key = "5ecret"
    try:
        try:
            raise ValueError("inner")
        except ValueError as error:
            raise RuntimeError(f"outer \x1b[31m {len(private_key)}") from error
    except RuntimeError as error:
        return error


def test_exceptions_are_json_without_local_variables() -> None:
    out = io.StringIO()
    configure("info", "json", out)
    log.error("failed", exc_info=raised())
    exceptions = logged(out)["exception"]
    assert isinstance(exceptions, list)
    assert [each["exc_type"] for each in exceptions] == ["RuntimeError", "ValueError"]
    assert "5ecret" not in out.getvalue()


def test_exceptions_are_readable_text() -> None:
    out = io.StringIO()
    configure("info", "text", out)
    log.error("failed", exc_info=raised())
    lines = out.getvalue().splitlines()
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[-1] == "RuntimeError: outer \\x1b[31m 6"
    assert "\x1b" not in out.getvalue()


def test_control_characters_are_escaped() -> None:
    out = io.StringIO()
    configure("info", "text", out)
    log.info("said \x1b[2J", text="\x1b[31m\nnext")
    assert "\x1b" not in out.getvalue()
    assert out.getvalue().count("\n") == 1


class Odd:
    def __repr__(self) -> str:
        return "<odd>"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (Odd(), "<odd>"),
        ({1}, [1]),
        ({(1, 2): 3}, {"(1, 2)": 3}),
        ({Odd(): 3}, {"<odd>": 3}),
        ("\ud800", "\\ud800"),
        (1 << 80, 1 << 80),
    ],
)
def test_whatever_is_logged_is_written(value: object, shown: object) -> None:
    out = io.StringIO()
    configure("info", "json", out)
    log.info("x", value=value)
    assert logged(out)["value"] == shown


def test_a_stream_that_is_gone_stops_nothing() -> None:
    out = io.StringIO()
    configure("info", "json", out)
    out.close()
    log.info("nobody hears this")


def test_without_a_stream_it_is_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "json")
    log.info("x")
    captured = capsys.readouterr()
    assert '"event":"x"' in captured.err
    assert captured.out == ""
