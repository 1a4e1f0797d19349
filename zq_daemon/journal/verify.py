"""Whether the journal can be trusted: everything in it read, replayed twice and compared.

Owns what is checked. It changes nothing and takes no lock, so that it may run beside a daemon; what
that writes meanwhile is left out. Called by the command line.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import Factory, define

from zq_daemon.errors import JournalDamagedError, JournalError
from zq_daemon.journal.checkpoint import Found, SoundCheckpoint, decode_checkpoint
from zq_daemon.journal.consumers import consumers
from zq_daemon.journal.digest import differences, digest
from zq_daemon.journal.files import FOLDER, KIND, archived_names, checkpoint_names, require_journal
from zq_daemon.journal.opening import replay_from
from zq_daemon.journal.read import journal_errors
from zq_daemon.journal.replay import Replay
from zq_daemon.journal.state import JournalState
from zq_daemon.log import Opening, inspect_log
from zq_daemon.ports.disk import Disk

_NOTHING = Found(newest=None, damaged=())
_SHOWN = 5


@define(kw_only=True)
class Verification:
    """What was found. The journal is trustworthy when there are no *problems*.

    *opening* is the log's own report; *checkpoints* the sound ones, oldest first; *state* what
    replay leads to (None where it does not); *remarks* what is good to know.
    """

    opening: Opening
    archived: tuple[str, ...]
    checkpoints: list[SoundCheckpoint] = Factory(list)
    consumers: Mapping[str, int] = Factory(dict)
    state: JournalState | None = None
    remarks: list[str] = Factory(list)
    problems: list[str] = Factory(list)


async def verify(disk: Disk, *, closed_orders: int) -> Verification:
    """Check all of the journal. JournalError where there is none, or it cannot be read at all."""
    with journal_errors():
        await require_journal(disk)
        found = Verification(
            opening=await inspect_log(disk, FOLDER, kind=KIND),
            archived=tuple(await archived_names(disk)),
        )
        found.problems += [str(damage) for damage in found.opening.damages]
        await _check_checkpoints(disk, found)
        await _check_consumers(disk, found)
    await _check_replay(disk, found, closed_orders)
    return found


async def _check_checkpoints(disk: Disk, found: Verification) -> None:
    """Each is read, and what it says it holds compared with what it holds."""
    for name in await checkpoint_names(disk):
        try:
            sound = decode_checkpoint(name, await disk.read(f"{FOLDER}/{name}"))
            replay = Replay(closed_orders=sound.closed_orders, checkpoint=sound.checkpoint)
            if digest(replay.finish()) != sound.digest:
                raise JournalDamagedError(f"{FOLDER}/{name}: does not hold what it says")
        except JournalError as error:
            found.problems.append(f"{error}; an older one and the archive are used in its place")
        else:
            found.checkpoints.append(sound)


async def _check_consumers(disk: Disk, found: Verification) -> None:
    last = found.opening.last_sequence
    try:
        found.consumers = await consumers(disk)
    except JournalError as error:
        found.problems.append(str(error))
    for name, sequence in found.consumers.items():
        if sequence > last:
            found.problems.append(
                f"consumer {name!r} has read up to record {sequence}, and the journal ends at "
                f"{last}: the end of the journal is lost, or it was replaced by an older one"
            )


async def _check_replay(disk: Disk, found: Verification, closed_orders: int) -> None:
    """Replay as a daemon would, and once more from the first record there ever was."""
    last = found.opening.last_sequence
    newest = found.checkpoints[-1] if found.checkpoints else None
    try:
        short = Found(newest=newest, damaged=())
        found.state = await replay_from(disk, short, closed_orders=closed_orders, up_to=last)
    except JournalError as error:
        found.problems.append(str(error))
        return
    if newest is None:
        return
    try:
        whole = await replay_from(disk, _NOTHING, closed_orders=newest.closed_orders, up_to=last)
    except JournalError as error:
        found.problems.append(f"the whole history cannot be replayed: {error}")
        return
    quick = found.state
    if newest.closed_orders != closed_orders:
        quick = await replay_from(disk, short, closed_orders=newest.closed_orders, up_to=last)
    _compare(found, quick, whole)


def _compare(found: Verification, quick: JournalState, whole: JournalState) -> None:
    told = differences(quick, whole)
    if not told:
        found.remarks.append("replay from the checkpoint leads to the same as the whole history")
        return
    found.problems.append(
        "replay from the checkpoint differs from the whole history (checkpoint, not whole): "
        + "; ".join(told[:_SHOWN])
    )
