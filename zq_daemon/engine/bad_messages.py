"""What was received and not understood: the latest kept for inspection, all of it counted.

Owns a store that is bounded whatever the far side sends: in messages, in bytes of each, in kinds of
problem, in sources. Decides nothing: whoever reads an endpoint asks for its rate and may reconnect.
Called where messages are received; read by the control socket.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping

from attrs import frozen

OTHER = "(other)"
"""Counts the problem kinds and sources beyond those that are counted by name."""

_MINUTE_NS = 60_000_000_000
_PROBLEM_CHARS = 256
_NAMES = 64
_REMEMBERED_TIMES = 1_024


@frozen(kw_only=True)
class BadMessage:
    """One message of *size* bytes or characters, of which *raw* is the beginning, as UTF-8."""

    source: str
    raw: bytes
    size: int
    problem: str
    ts_ns: int


class BadMessages:
    """The latest bad messages, counters by kind of problem, and rates by source."""

    def __init__(self, limit: int = 100, max_bytes: int = 4_096) -> None:
        """Keep the last *limit* messages, *max_bytes* of each."""
        self._max_bytes = max_bytes
        self._recent: deque[BadMessage] = deque(maxlen=limit)
        self._by_problem: Counter[str] = Counter()
        self._times: dict[str, deque[int]] = {}
        self.count = 0

    def add(self, source: str, raw: str | bytes, problem: str, ts_ns: int) -> None:
        """Keep a message; the kind of *problem* is its text before the first colon."""
        self.count += 1
        self._by_problem[_within(self._by_problem, problem.partition(":")[0])] += 1
        self._times.setdefault(
            _within(self._times, source), deque(maxlen=_REMEMBERED_TIMES)
        ).append(ts_ns)
        message = BadMessage(
            source=source[:_PROBLEM_CHARS],
            raw=_beginning(raw, self._max_bytes),
            size=len(raw),
            problem=problem[:_PROBLEM_CHARS],
            ts_ns=ts_ns,
        )
        self._recent.append(message)

    def recent(self) -> tuple[BadMessage, ...]:
        """The latest messages, oldest first."""
        return tuple(self._recent)

    @property
    def by_problem(self) -> Mapping[str, int]:
        """How many messages for each kind of problem; `OTHER` for kinds beyond the 64th."""
        return dict(self._by_problem)

    def last_minute(self, source: str, now_ns: int) -> int:
        """How many messages of *source* in the minute before *now_ns*; counts no further than 1024.

        Sources beyond the 64th share one rate. Times after *now_ns* do not count, so that a clock
        which was set back does not keep a rate high.
        """
        times = self._times.get(_within(self._times, source), ())
        return sum(now_ns - _MINUTE_NS < ts_ns <= now_ns for ts_ns in times)


def _within(names: Mapping[str, object], name: str) -> str:
    """*name*, or `OTHER` when it is new and there are names enough."""
    name = name[:_PROBLEM_CHARS]
    return name if name in names or len(names) < _NAMES else OTHER


def _beginning(raw: str | bytes, max_bytes: int) -> bytes:
    head = raw[:max_bytes]
    if isinstance(head, str):
        head = head.encode("utf-8", "backslashreplace")[:max_bytes]
    return bytes(head)
