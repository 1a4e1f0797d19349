"""Daemons that are wrong on purpose, each by a change of a few words in one module of the package.

The simulation has to notice every one of them. A change whose text is not found in the module as it
is now, once and not more, is an error: the code has moved on, and the mutant with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).parents[2]
PACKAGE = "zq_daemon"
_PATIENCE_S = 3_600


@frozen(kw_only=True)
class Mutant:
    """In *module* (below the package) *old* becomes *new*; *seed* is one that notices it."""

    name: str
    module: str
    old: str
    new: str
    seed: int

    def source(self) -> str:
        """The module's text with the change; ValueError when it cannot be made."""
        text = (ROOT / PACKAGE / self.module).read_text()
        if text.count(self.old) != 1:
            raise ValueError(
                f"mutant {self.name}: {self.module} has its text {text.count(self.old)} times"
            )
        return text.replace(self.old, self.new)

    def plant(self, folder: Path) -> None:
        """Make *folder* a checkout in which the package has the change."""
        source = self.source()
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / PACKAGE, folder / PACKAGE, ignore=ignored)
        (folder / PACKAGE / self.module).write_text(source)
        (folder / "tests").symlink_to(ROOT / "tests")


@frozen
class Hunted:
    """Whether a mutant was noticed: by the seed *number*, out of *tried*, and *how*."""

    mutant: Mutant
    number: int | None
    tried: int
    how: str


def hunt(mutant: Mutant, *, first: int, most: int) -> Hunted:
    """Run seeds from *first* on with *mutant*, at most so many, until one notices.

    ValueError when the change cannot be made.
    """
    with tempfile.TemporaryDirectory(prefix="zq-mutant-") as folder:
        mutant.plant(Path(folder))
        asked = ["--hunt", str(most), "--first", str(first)]
        done = subprocess.run(
            [sys.executable, "-m", "tests.simulation", *asked],
            cwd=folder,
            env=unmeasured() | {"PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"},
            stdout=subprocess.PIPE,
            text=True,
            timeout=_PATIENCE_S,
            check=False,
        )
    word, _, rest = done.stdout.strip().partition(" ")
    number, _, how = rest.partition(" ")
    if word == "noticed":
        return Hunted(mutant, int(number), int(number) - first + 1, how.strip())
    if word != "unnoticed":
        raise RuntimeError(f"mutant {mutant.name}: the hunt ended with {done.returncode}")
    return Hunted(mutant, None, most, "")


def unmeasured() -> dict[str, str]:
    """The environment without what has coverage measure a process: it would take most of it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}


MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        name="submit before the intent is durable",
        module="engine/departures.py",
        old="            await self._journal.durable()\n",
        new="            await trio.lowlevel.checkpoint()\n",
        seed=0,
    ),
    Mutant(
        name="not found once is lost",
        module="engine/inquiry.py",
        old="        elif not watch.may_appear(self._clock.now_ns()):\n"
        "            absent.setdefault(watch.account_id, []).append(watch)\n",
        new="        elif order is not None and not order.is_closed:\n"
        "            self._conclude(order, watch, 0, seen=False)\n",
        seed=0,
    ),
    Mutant(
        name="dedupe dropped",
        module="engine/reports.py",
        old='            self._counts["repeated_fills"] += 1\n            return\n',
        new="            from attrs import evolve\n\n"
        "            fill = evolve(fill, trade_id=fill.trade_id + ' again')\n",
        seed=0,
    ),
    Mutant(
        name="private gap not fetched",
        module="engine/catch_up.py",
        # One that only does not fetch after an outage is slower, but not wrong: the snapshot of the
        # new connection, orders asked about, statements and the next fetch make up for it. This one
        # is wrong: a link is back, and what was traded before is not taken from anywhere any more.
        old="            self._due.set(account_id, self._clock.monotonic_ns())\n",
        new="            read, up_ns = self._reports._read_fill, self._clock.now_ns()\n"
        "            self._reports._read_fill = (\n"
        "                lambda fill: None if fill.ts_event_ns < up_ns else read(fill)\n"
        "            )\n"
        "            self._missing.discard(account_id)\n"
        "            self._reports.trust(account_id)\n",
        seed=46,
    ),
    Mutant(
        name="no history is read",
        module="engine/inquiry.py",
        old="        for fill in history.fills:\n            self._reports.read(fill)\n",
        new="",
        seed=0,
    ),
    Mutant(
        name="service unshielded",
        module="runtime/service.py",
        old="            self._scope.shield = True\n",
        new="            pass\n",
        seed=2,
    ),
    Mutant(
        name="nonce reused after restart",
        module="venue/hyperliquid/trade.py",
        old="        self._last_nonce = max(self._last_nonce, last_nonce)\n",
        new="",
        seed=0,
    ),
    Mutant(
        name="cancel treated as done when sent",
        module="engine/departures.py",
        old="        request = prepared.request\n        outcomes: Sequence[Outcome] = ()\n",
        new="        request = prepared.request\n        outcomes: Sequence[Outcome] = ()\n"
        "        for order in self._live(request) if prepared.kind == 'cancel' else ():\n"
        "            self._ledger.cancel(order, 'as requested')\n",
        seed=0,
    ),
    Mutant(
        name="refused cancel treated as done",
        module="engine/outcomes.py",
        old="                self._cancel_refused(order, outcome)\n",
        new='                self._ledger.cancel(order, "as requested")\n',
        seed=0,
    ),
    Mutant(
        name="unheard cancel treated as done",
        module="engine/outcomes.py",
        old='(order, Pending.CANCEL, "NOT_SENT", outcome.detail)\n'
        "            case Ambiguous():\n"
        "                self._unknown(order, outcome.detail)\n",
        new='(order, Pending.CANCEL, "NOT_SENT", outcome.detail)\n'
        "            case Ambiguous():\n"
        '                self._ledger.cancel(order, "as requested")\n',
        seed=0,
    ),
    Mutant(
        name="watchdog fed by the wrong task",
        # By the task that hands on reports: the trading loop may hang for ever.
        module="assembly.py",
        old="        await self.feed.put([Probe(number=self._probes, ts_event_ns=now_ns)])\n"
        "        await passed.wait()\n",
        new="",
        seed=0,
    ),
    Mutant(
        name="watchdog fed without a proof",
        module="runtime/notify.py",
        old="            await self._proved(prove, period_s)\n",
        new="",
        seed=0,
    ),
    Mutant(
        name="a timeout is a rejection",
        module="engine/outcomes.py",
        old='                self._ledger.reject(order, "NOT_SENT", outcome.detail)\n'
        "            case Ambiguous():\n"
        "                self._unknown(order, outcome.detail)\n",
        new='                self._ledger.reject(order, "NOT_SENT", outcome.detail)\n'
        "            case Ambiguous():\n"
        '                self._ledger.reject(order, "TIMEOUT", outcome.detail)\n',
        seed=0,
    ),
    Mutant(
        name="client order ids begin anew",
        module="engine/client_order_ids.py",
        old='        run_id = int.from_bytes(rng.randbytes(8), "big")\n',
        new="        run_id = 77\n",
        seed=0,
    ),
    Mutant(
        name="a replaced id ends the order",
        module="core/order_state.py",
        old="    if closing.venue_order_id in order.venue_order_ids[:-1]:\n        return order\n",
        new="    if closing.venue_order_id in order.venue_order_ids[:-1]:\n"
        "        closing = Closing(None, closing.status, closing.reason)\n",
        seed=1,
    ),
    Mutant(
        name="fills after the end ignored",
        module="core/order_state.py",
        old="    if fill.trade_id in order.trade_ids:\n",
        new="    if fill.trade_id in order.trade_ids or order.is_closed:\n",
        seed=0,
    ),
    Mutant(
        name="a status nobody knows ends the order",
        module="venue/hyperliquid/decode.py",
        old="    return OrderStatus.ACCEPTED, False\n",
        new="    return OrderStatus.CANCELED, False\n",
        seed=2,
    ),
    Mutant(
        name="commit without sync",
        module="log/tail.py",
        old="        await self._file.commit(self._offset, frames)\n",
        new="        await self._file.write(self._offset, frames)\n",
        seed=0,
    ),
    Mutant(
        name="a restart forgets what was in flight",
        module="engine/restore.py",
        old="            _watch(settled, intent, in_flight, clock)\n",
        new="            pass\n",
        seed=4,
    ),
    Mutant(
        name="new orders while stopping",
        module="engine/execution.py",
        old="        self._admission.closed_by = reason\n",
        new="",
        seed=0,
    ),
    Mutant(
        name="strategies hear on after their stop",
        module="strategy/host.py",
        old="            hosted.silence()\n            if hosted.flattening",
        new="            if hosted.flattening",
        seed=0,
    ),
    Mutant(
        name="what has no outcome is sent again",
        module="engine/departures.py",
        old="                outcomes = await self._entries[prepared.account_id].send(request)\n",
        new="                send = self._entries[prepared.account_id].send\n"
        "                outcomes = await send(request)\n"
        "                if isinstance(outcomes[0], Ambiguous):\n"
        "                    outcomes = await send(request)\n",
        seed=0,
    ),
    Mutant(
        name="the last fill counts for all",
        module="core/order_state.py",
        old="        filled_quantity=EXACT.add(quantity, fill.quantity),\n",
        new="        filled_quantity=fill.quantity,\n",
        seed=4,
    ),
    Mutant(
        name="a book keeps its first asks",
        module="core/book.py",
        old="        self._bids, self._asks = snapshot.bids, snapshot.asks\n",
        new="        self._bids = snapshot.bids\n"
        "        self._asks = self._asks if len(self._asks) else snapshot.asks\n",
        seed=0,
    ),
    Mutant(
        name="a replay does not know the fills again",
        module="journal/replay.py",
        old="        self._state.seen.add(event.fill)\n",
        new="",
        seed=0,
    ),
)
"""All of them; the seeds are the first ones that notice."""
