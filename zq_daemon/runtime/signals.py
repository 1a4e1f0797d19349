"""Unix signals as calls: TERM and INT ask for a stop, a second one cuts it short, HUP reloads."""

from __future__ import annotations

import signal
from collections.abc import Callable

import trio


async def watch_signals(
    *,
    on_stop: Callable[[str], None],
    on_cut: Callable[[str], None],
    on_reload: Callable[[], None],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Deliver signals until cancelled; only in the main thread of the process."""
    stopping = False
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as received:
        task_status.started()
        async for number in received:
            if number == signal.SIGHUP:
                on_reload()
                continue
            name = signal.Signals(number).name
            (on_cut if stopping else on_stop)(name)
            stopping = True
