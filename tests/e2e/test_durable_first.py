"""Seen from the socket: no byte of a request arrives before its intent was synced to the disk.

The daemon is a real process; below it synced writes are slow and witnessed
(`tests.harness.witness`). On the wire, at the first byte of each request, is noted how much had
been synced by then. The intent has to be in that, and on the disk as it was synced. Two broken
daemons show that a request which does not wait for its intent is seen, and so is a commit that does
not sync.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.harness.floor import Floor, Terms, open_floor
from tests.harness.mortal_daemon import intents_in
from tests.harness.wire import Post
from tests.harness.witness import synced

_POSTS = 40
_KINDS = {"order", "cancelByCloid", "batchModify"}


async def test_no_byte_leaves_before_its_intent_is_durable(tmp_path: Path) -> None:
    posts = await _trade(tmp_path)
    assert {post.kind for post in posts} == _KINDS
    assert sum(len(post.cloids) for post in posts) >= _POSTS
    assert list(_early(posts, tmp_path / "witness")) == []


@pytest.mark.parametrize("mutant", ["submit_first", "commit_without_sync"])
async def test_a_daemon_that_does_not_wait_for_the_disk_is_found_out(
    tmp_path: Path, mutant: str
) -> None:
    posts = await _trade(tmp_path, "--mutant", mutant)
    early = list(_early(posts, tmp_path / "witness"))
    assert len(early) > _POSTS / 2
    assert "order" in {post.kind for post in early}


async def _trade(folder: Path, *arguments: str) -> list[Post]:
    """What a daemon sent in its life; each post knows how long the witness's file was then."""
    witness = folder / "witness"
    witness.touch()
    async with open_floor(folder, seed=4) as floor:
        floor.wire.look = lambda: witness.stat().st_size
        floor.configure(Terms(churn=3, on_stop="cancel"))
        async with floor.mortal("--witness", str(witness), *arguments) as daemon:
            await floor.wire.wait_posts(lambda: _is_enough(floor), f"{_POSTS} requests")
            assert await daemon.stop() == 0
        return floor.wire.posts


def _is_enough(floor: Floor) -> bool:
    posts = floor.wire.posts
    return len(posts) >= _POSTS and {post.kind for post in posts} == _KINDS


def _early(posts: Iterable[Post], witness: Path) -> Iterable[Post]:
    """The posts whose first byte came while not all their intents were durable."""
    lines = witness.read_bytes().splitlines(keepends=True)
    ends = list(itertools.accumulate(len(line) for line in lines))
    found: dict[tuple[int, str], int] = {}
    for end, piece in zip(ends, synced(b"".join(lines)), strict=True):
        for intent in intents_in(piece.read()):
            found.setdefault((intent.nonce, intent.client_order_id), end)
    for post in posts:
        assert post.cloids
        if any(found.get((post.nonce, each), post.seen + 1) > post.seen for each in post.cloids):
            yield post
