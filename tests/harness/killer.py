"""Draws how the lives of a daemon begin, what the exchange does wrong meanwhile, and how they end.

All of it follows from one seed, but for what real time makes of it. `Killer.live` is one life: the
daemon is gone when it returns, by SIGKILL whatever else happened, and what happened is counted.
"""

from __future__ import annotations

import random
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import trio
from attrs import Factory, define, frozen

from tests.harness.floor import Floor
from tests.harness.mortal_daemon import POINTS, REQUESTS
from tests.harness.process import RunningDaemon

ENDS = ("time", "point", "early", "time", "stop", "start", "point", "time")
"""In turn, each round shuffled: how lives end; `early` is maybe before the first line is logged."""
_LONGEST_S = {"early": 2.0, "start": 0.8, "stop": 0.5}
_START_S = 12.0
"""How long a daemon may take until it runs, before it is killed all the same."""
_POINT_S = 4.0


@frozen(kw_only=True)
class Life:
    """How one ends: killed *after_s* of running, of its first log line (start) or before (early).

    At a *point* (see `mortal_daemon`) it dies at the *nth* such *request*, if there are as many. At
    a stop it is asked to end then, and killed amid that. *faults* are in force before it starts,
    and *later* half-way; both are lines of TOML.
    """

    end: str
    after_s: float
    point: str
    nth: int
    request: str
    faults: str
    later: str | None


@define
class Tally:
    """What came of all lives so far."""

    lives: Counter[str] = Factory(Counter)
    codes: Counter[int] = Factory(Counter)
    points: Counter[str] = Factory(Counter)
    faults: Counter[str] = Factory(Counter)
    never_ran: int = 0

    @property
    def kills(self) -> int:
        """How many died of `kill -9`."""
        return self.codes[-signal.SIGKILL]


class Killer:
    """Draws lives from *seed*, and lives them."""

    def __init__(self, floor: Floor, seed: int) -> None:
        self.tally = Tally()
        self._floor = floor
        self._rng = random.Random(seed)
        self._ends = self._in_turn()

    def draw(self) -> Life:
        """The next life."""
        rng, end = self._rng, next(self._ends)
        longest = _LONGEST_S.get(end, 3.0)
        return Life(
            end=end,
            after_s=rng.uniform(0 if end in _LONGEST_S else 0.3, longest),
            point=rng.choice(POINTS),
            nth=rng.randint(1, 6),
            request=rng.choice(("submit", "submit", *REQUESTS)),
            faults=self._draw_faults(dead=end != "point"),
            later=self._draw_faults(dead=False) if rng.random() < 0.4 else None,
        )

    async def live(self, life: Life) -> None:
        """A daemon from start to end; after it the exchange does nothing wrong."""
        await self._floor.misbehave(life.faults)
        arguments = ["--point", life.point, "--nth", str(life.nth), "--request", life.request]
        async with self._floor.mortal(*(arguments if life.end == "point" else ())) as daemon:
            if life.end in ("early", "start"):
                if life.end == "start":
                    await daemon.wait_log(lambda _: True, "anything")
                await trio.sleep(life.after_s)
            elif await self._runs(daemon):
                await self._trade(daemon, life)
            else:
                self.tally.never_ran += 1
            if daemon.process.poll() is None:
                daemon.process.kill()
            self._count(life, daemon, await daemon.wait_exit())
        await self._floor.misbehave()

    async def _runs(self, daemon: RunningDaemon) -> bool:
        """Whether it came so far; it may have ended, or wait for an exchange that is unwell."""
        with trio.move_on_after(_START_S):
            try:
                await daemon.wait_event("running")
            except AssertionError:
                assert daemon.ended.is_set()
                return False
            return True
        return False

    async def _trade(self, daemon: RunningDaemon, life: Life) -> None:
        if life.end == "point":
            daemon.send_signal(signal.SIGUSR1)
        with trio.move_on_after(_POINT_S if life.end == "point" else life.after_s):
            await trio.sleep(life.after_s / 2)
            if life.later is not None:
                await self._floor.misbehave(life.later)
            await daemon.ended.wait()
        if life.end == "stop" and daemon.process.poll() is None:
            daemon.send_signal(signal.SIGTERM)
            with trio.move_on_after(self._rng.uniform(0, 0.5)):
                await daemon.ended.wait()

    def _count(self, life: Life, daemon: RunningDaemon, code: int) -> None:
        self.tally.codes[code] += 1
        self.tally.lives[life.end] += 1
        for line in daemon.log:
            if line.get("event") == "killed":
                self.tally.points[line["point"]] += 1

    def _in_turn(self) -> Iterator[str]:
        while True:
            yield from self._rng.sample(ENDS, len(ENDS))

    def _draw_faults(self, *, dead: bool) -> str:
        """Up to three kinds of faults at once, or none; *dead*: and one that lets nothing pass."""
        rng = self._rng
        names = rng.sample(sorted(_FAULTS), rng.choice((0, 1, 1, 2, 2, 3)))
        if dead and rng.random() < 0.2:
            names.append(rng.choice(sorted(_DEAD)))
        drawn: dict[str, Any] = {"seed": rng.randrange(1_000)}
        for name in names:
            drawn |= (_FAULTS | _DEAD)[name](rng)
            self.tally.faults[name] += 1
        return "".join(f"{name} = {_toml(value)}\n" for name, value in drawn.items())


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value).replace("'", '"')


def _cut(when: str) -> Callable[[random.Random], Mapping[str, Any]]:
    return lambda rng: {
        f"cut_{when}_execute": rng.randint(1, 2),
        "cut_action": rng.choice(("any", "order", "cancel", "modify")),
    }


def _http_error(rng: random.Random) -> Mapping[str, Any]:
    return {
        "http_error": rng.choice((429, 500, 502, 503)),
        "http_error_count": rng.randint(1, 3),
        "http_error_share": rng.choice(("0", "0.1", "0.3")),
        "http_error_path": rng.choice(("any", "info", "exchange")),
        "http_error_executes": rng.random() < 0.5,
    }


_FAULTS: dict[str, Callable[[random.Random], Mapping[str, Any]]] = {
    "answers late": lambda rng: {"reply_latency_ms": rng.choice((50, 300, 1_500))},
    "answers lost": lambda rng: {"drop_reply_count": rng.randint(1, 3)},
    "cut before": _cut("before"),
    "cut after": _cut("after"),
    "errors": _http_error,
    "post only": lambda _: {"post_only_ms": 800},
    "strange words": lambda rng: {
        "strange_status_count": rng.randint(0, 2),
        "strange_reply_count": rng.randint(0, 2),
    },
    "cancels late": lambda rng: {"cancel_latency_ms": rng.choice((100, 700))},
    "cancels refused": lambda rng: {"refuse_cancel_count": rng.randint(1, 2)},
    "fills before cancels": lambda rng: {"fill_on_cancel_count": rng.randint(1, 3)},
    "orders forgotten": lambda rng: {"forget_order_count": rng.randint(1, 2)},
    "private late": lambda rng: {"private_latency_ms": rng.choice((100, 800))},
    "private lost": lambda rng: {"drop_private_count": rng.randint(1, 5)},
    "private lossy": lambda rng: {"drop_private_share": rng.choice(("0.2", "0.6"))},
    "no private": lambda _: {"drop_private": True},
    "fills repeated": lambda _: {"repeat_fills": True},
    "modifies swapped": lambda _: {"swap_modifies": True},
    "links closed": lambda rng: {
        "close_after_ms": rng.choice((300, 1_000)),
        "close_code": rng.choice((0, 1001, 1008, 1011, 4000)),
    },
    "half open": lambda rng: {"half_open_count": rng.randint(1, 2)},
}
_DEAD: dict[str, Callable[[random.Random], Mapping[str, Any]]] = {
    "no answers": lambda _: {"drop_replies": True},
    "deaf": lambda _: {"deaf": True},
    "mute": lambda _: {"mute": True},
    "frozen": lambda _: {"freeze_data": True},
}
