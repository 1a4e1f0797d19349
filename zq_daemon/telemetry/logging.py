"""Logging: structlog, one line an event on stderr; readable on a terminal, JSON elsewhere.

Owns the processors, the level (changeable while running) and the redaction of what is named like a
secret. A write blocks when stderr's reader does: stderr is a terminal, a file or journald's socket.
Called once by the command line (`configure`); every module gets its logger by `get_logger(name)`.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any, Literal, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from zq_daemon.config.schema import LogLevel

Format = Literal["auto", "text", "json"]

LEVELS: Mapping[LogLevel, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}
HIDDEN = "(hidden)"

_SECRET = re.compile(r"(?:.*_)?(?:key|secret|password|passphrase|signature)|.*private.*", re.I)
_DEPTH = 4
_EVENT_WIDTH = 22
_LONG = 64
"""Names from this length on are not remembered: they are data."""
_threshold = LEVELS["info"]


def configure(level: LogLevel, style: Format = "auto", stream: TextIO | None = None) -> None:
    """Log to *stream* (stderr when None) from now on; `auto` is text on a terminal, else JSON.

    Loggers obtained before follow too. Calling it again replaces the former configuration.
    """
    out = sys.stderr if stream is None else stream
    text = style == "text" or (style == "auto" and out.isatty())
    set_level(level)
    structlog.configure(
        processors=[_below_level, *_common(text), *_rendering(text, out)],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS["debug"]),
        logger_factory=lambda *name: _Writer(out, *name),
        cache_logger_on_first_use=False,
    )


def set_level(level: LogLevel) -> None:
    """Log from *level* on, everywhere, at once."""
    global _threshold
    _threshold = LEVELS[level]


def shows(level: LogLevel) -> bool:
    """Whether a line of *level* is written now: for lines that cost something to make."""
    return LEVELS[level] >= _threshold


def get_logger(name: str) -> FilteringBoundLogger:
    """The logger of the component *name*; `log.bind(...)` adds values to each of its lines."""
    logger: FilteringBoundLogger = structlog.get_logger(name)
    return logger


def redact(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Processor: hide the values of keys named like secrets, also inside mappings."""
    for name in list(event):
        event[name] = _redacted(name, event[name], _DEPTH)
    return event


def _redacted(name: Any, value: Any, depth: int) -> Any:
    if isinstance(name, str) and (_is_secret if len(name) < _LONG else _SECRET.fullmatch)(name):
        return HIDDEN
    if type(value) is not str and isinstance(value, Mapping) and depth:
        return {key: _redacted(key, item, depth - 1) for key, item in value.items()}
    return value


@lru_cache(1_024)
def _is_secret(name: str) -> bool:
    return _SECRET.fullmatch(name) is not None


def _below_level(_logger: Any, method: str, event: EventDict) -> EventDict:
    if structlog.processors.NAME_TO_LEVEL[method] < _threshold:
        raise structlog.DropEvent
    return event


def _add_name(logger: Any, _method: str, event: EventDict) -> EventDict:
    event["logger_name"] = logger.name
    return event


def _common(text: bool) -> list[Processor]:
    stamp = structlog.processors.TimeStamper(
        fmt="%H:%M:%S.%f" if text else "iso", utc=not text, key="timestamp"
    )
    return [_add_name, structlog.stdlib.add_log_level, stamp, redact]


def _rendering(text: bool, out: TextIO) -> list[Processor]:
    if not text:
        return [structlog.processors.ExceptionRenderer(_without_locals), _json]
    renderer = structlog.dev.ConsoleRenderer(
        colors=out.isatty(),
        pad_event_to=_EVENT_WIDTH,
        exception_formatter=_traceback,
        sort_keys=False,
    )
    return [_readable, renderer]


_without_locals = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
"""Local variables may hold secrets: never in a log."""


def _traceback(out: TextIO, exc_info: Any) -> None:
    lines = "".join(traceback.format_exception(*exc_info)).splitlines()
    out.writelines(f"\n{_printable(line)}" for line in lines)


def _readable(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """What people read: numbers and enums by their text, and nothing that is absent.

    Control characters are escaped: a terminal would obey them.
    """
    del event["logger_name"]
    event["timestamp"] = event["timestamp"][:-3]  # people need no microseconds
    for name, value in list(event.items()):
        if value is None:
            del event[name]
        elif isinstance(value, Decimal | Enum):
            event[name] = _plain(value)
    event["event"] = _printable(str(event["event"]))
    return event


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)[1:-1]


def _json(_logger: Any, _method: str, event: EventDict) -> str:
    event["logger"] = event.pop("logger_name")
    event = _first(event, "timestamp", "level", "logger", "event")
    try:
        line = msgspec.json.encode(event, enc_hook=_plain)
    except (TypeError, ValueError, OverflowError, RecursionError):
        line = msgspec.json.encode({_ascii(name): _ascii(event[name]) for name in event})
    return line.decode()


def _ascii(value: Any) -> str:
    return ascii(str(value))[1:-1]


def _first(event: MutableMapping[str, Any], *names: str) -> dict[str, Any]:
    ordered = {name: event.pop(name) for name in names if name in event}
    return {**ordered, **event}


def _plain(value: Any) -> Any:
    """What msgspec does not know: numbers and enums by their text, the rest by its repr."""
    match value:
        case Enum():
            return value.value
        case Decimal():
            return str(value)
    return repr(value)


class _Writer:
    """Writes finished lines; a stream that cannot be written must not stop the trading."""

    def __init__(self, out: TextIO, name: str = "") -> None:
        self.name = name
        self._out = out

    def msg(self, line: str) -> None:
        try:
            self._out.write(f"{line}\n")
            self._out.flush()
        except (OSError, ValueError):
            return

    debug = info = warning = error = critical = msg
