"""`zq-daemon journal`: what it says of sound and of damaged journals, and what it changes."""

from __future__ import annotations

import json
import os
import sqlite3
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from attrs import define

from tests.harness.journal_disk import SMALL, payloads_of, write_life
from tests.harness.journal_life import ACCOUNTS
from zq_daemon.cli.main import run_command
from zq_daemon.journal import codec
from zq_daemon.journal.consumers import register
from zq_daemon.journal.files import FOLDER, KIND
from zq_daemon.log import open_log
from zq_daemon.log.frame import frame_bytes
from zq_daemon.log.segment import HEADER_BYTES
from zq_daemon.ports.disk import SystemDisk
from zq_daemon.ports.rng import seeded_rng


@define
class Desk:
    """A state folder with a journal, and the command to look at it."""

    root: Path
    capsys: pytest.CaptureFixture[str]
    records: list[bytes]

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of `zq-daemon journal ...`."""
        self.capsys.readouterr()
        config = str(self.root / "config.toml")
        code = run_command(["journal", arguments[0], "--config", config, *arguments[1:]])
        said = self.capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    @property
    def journal(self) -> Path:
        return self.root / "var" / FOLDER

    @property
    def segments(self) -> list[Path]:
        return sorted(self.journal.glob("0*.log"))

    def damage(self, path: Path, offset: int, data: bytes) -> None:
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def listing(self) -> dict[str, bytes]:
        """Every file but the locks, which say who had them last."""
        return {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and "lock" not in path.name
        }


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    disk = SystemDisk(tmp_path / "var")

    async def prepare() -> list[bytes]:
        await write_life(disk, 7, 150)
        return await payloads_of(disk)

    (tmp_path / "config.toml").write_text('state_dir = "var"\n')
    return Desk(tmp_path, capsys, trio.run(prepare))


def test_a_sound_journal(desk: Desk) -> None:
    before = desk.listing()
    code, out, err = desk.run("verify")
    assert (code, err) == (0, "")
    assert f"records 1 to {len(desk.records)}, in {len(desk.segments)} segments" in out
    assert "live order" in out
    assert out.endswith("sound: the journal can be trusted\n")
    assert desk.listing() == before


def test_no_journal_yet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.toml").write_text('state_dir = "var"\n')
    desk = Desk(tmp_path, capsys, [])
    commands = ("verify", "verify --accept-damage", "dump", "compact", "rebuild-history")
    for command in commands:
        code, out, err = desk.run(*command.split())
        assert (code, out) == (69, "")
        assert "there is no journal here yet" in err
    assert not (tmp_path / "var").exists()


def test_compacting(desk: Desk) -> None:
    names = [path.name for path in desk.segments]
    code, out, _ = desk.run("compact")
    assert code == 0
    assert out.splitlines()[0].startswith("written: journal/checkpoint-")
    assert out.splitlines()[-1] == f"the rest stays: {names[-1]} is the last segment and stays"
    assert [path.name for path in desk.segments] == names[-1:]
    assert sorted(path.name for path in (desk.journal / "archive").iterdir()) == [
        f"{name}.gz" for name in names[:-1]
    ]
    code, out, _ = desk.run("verify")
    assert code == 0
    assert f"in {len(names) - 1} archived segments" in out
    assert "replay from the checkpoint leads to the same as the whole history" in out
    code, out, _ = desk.run("compact")
    assert (code, out) == (0, f"nothing to archive: {names[-1]} is the last segment and stays\n")


def test_compacting_says_who_is_in_the_way(desk: Desk) -> None:
    trio.run(register, SystemDisk(desk.root / "var"), "bridge", 3)
    code, out, _ = desk.run("compact")
    assert code == 0
    assert out.startswith("nothing to archive: consumer 'bridge' is at record 3, and 0")
    (desk.journal / "consumers" / "bridge.json").write_text("{}")
    code, out, err = desk.run("compact")
    assert (code, out) == (70, "")
    assert "consumers/bridge.json: does not say how far" in err


def test_dumping(desk: Desk) -> None:
    code, out, _ = desk.run("dump")
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["sequence"] for line in lines] == list(range(1, len(desk.records) + 1))
    assert [line["type"] for line in lines] == [codec.name_of(each) for each in desk.records]
    assert list(lines[0])[:3] == ["sequence", "time", "type"]
    assert lines[0]["accounts"] == list(ACCOUNTS)
    assert lines[0]["time"].startswith("2023-11-14T22:13:20.")


def test_dumping_a_part(desk: Desk) -> None:
    _, out, _ = desk.run("dump", "--from", "10", "--limit", "3")
    assert [json.loads(line)["sequence"] for line in out.splitlines()] == [10, 11, 12]
    _, out, _ = desk.run("dump", "--type", "orderfilled")
    fills = [json.loads(line) for line in out.splitlines()]
    assert {line["type"] for line in fills} == {"OrderFilled"}
    order_id = fills[0]["client_order_id"]
    _, out, _ = desk.run("dump", "--order", order_id.upper().replace("X", "x"))
    about = [json.loads(line) for line in out.splitlines()]
    assert about[0]["type"] == "OrderInitialized"
    assert all(order_id in json.dumps(line) for line in about)
    assert len(about) == sum(order_id.encode() in each for each in desk.records)


def test_dumping_after_compaction(desk: Desk) -> None:
    desk.run("compact")
    _, out, err = desk.run("dump", "--limit", "1")
    kept = int(desk.segments[0].name[:20])
    assert json.loads(out)["sequence"] == kept
    assert err == f"records 1 to {kept - 1} are archived: see them with --all\n"
    _, out, err = desk.run("dump", "--all")
    assert (len(out.splitlines()), err) == (len(desk.records), "")


def test_dumping_what_cannot_be(desk: Desk) -> None:
    for arguments, said in (
        (["--order", "17"], "not 0x and 32 hexadecimal digits"),
        (["--type", "Nothing"], "not one of Intent, OrderInitialized"),
        (["--from", "0"], "0 is not in the range"),
        (["--limit", "0"], "0 is not in the range"),
    ):
        code, out, err = desk.run("dump", *arguments)
        assert (code, out) == (2, "")
        assert said in err


def test_a_reader_that_goes_away_ends_the_dump(desk: Desk) -> None:
    command = [sys.executable, "-m", "zq_daemon", "journal", "dump"]
    arguments = ["--config", str(desk.root / "config.toml")]
    read, write = os.pipe()
    process = subprocess.Popen([*command, *arguments], stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    os.close(read)  # before anything is written
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")


def test_rebuilding_the_history(desk: Desk) -> None:
    code, out, _ = desk.run("rebuild-history")
    path = desk.root / "var" / "history.sqlite"
    assert (code, out) == (0, f"{path}: built from records 1 to {len(desk.records)}\n")
    connection = sqlite3.connect(path)
    fills = connection.execute("SELECT count(*) FROM fills").fetchone()[0]
    connection.close()
    kinds = [codec.name_of(each) for each in desk.records]
    assert fills == kinds.count("OrderFilled") + kinds.count("ExternalFill")
    desk.run("compact")
    path.unlink()
    assert desk.run("rebuild-history")[1] == out


def test_a_torn_tail_is_no_damage(desk: Desk) -> None:
    last = desk.segments[-1]
    data = last.read_bytes()
    used = len(data.rstrip(b"\0"))
    desk.damage(last, (used + 15) & -8, b"half a record that was never acknowledged")
    code, out, _ = desk.run("verify")
    assert code == 0
    assert "bytes of an unfinished write at the end: nobody was told" in out


def flip_a_bit(desk: Desk) -> str:
    first = desk.segments[0]
    offset = HEADER_BYTES + frame_bytes(len(desk.records[0])) + 40
    desk.damage(first, offset, bytes([first.read_bytes()[offset] ^ 1]))
    return first.name


def cut_a_segment(desk: Desk) -> str:
    segment = desk.segments[1]
    os.truncate(segment, 3_000)
    return segment.name


def remove_a_segment(desk: Desk) -> str:
    segment = desk.segments[2]
    segment.unlink()
    return segment.name


def remove_the_end(desk: Desk) -> str:
    segment = desk.segments[-1]
    os.truncate(segment, HEADER_BYTES + 100)
    return segment.name


@pytest.mark.parametrize("hurt", [flip_a_bit, cut_a_segment, remove_a_segment, remove_the_end])
def test_damage_is_named_refused_and_accepted(desk: Desk, hurt: Callable[[Desk], str]) -> None:
    name = hurt(desk)
    before = desk.listing()
    code, out, err = desk.run("verify")
    assert code == 65
    assert f"damaged: journal/{name}, bytes " in err
    assert "is lost" in err or "are lost" in err
    assert "verify --accept-damage" in err
    assert "sound" not in out
    code, _, err = desk.run("dump")
    assert code == 0
    assert ("are not there: see `zq-daemon journal verify`" in err) is (hurt is not remove_the_end)
    code, _, err = desk.run("rebuild-history")
    assert code == 0
    assert f"journal/{name}, bytes " in err
    assert "see `zq-daemon journal verify`" in err
    (desk.root / "var" / "history.sqlite").unlink()
    (desk.journal / "consumers" / "history.json").unlink()
    before = desk.listing()
    code, _, err = desk.run("compact")
    assert code == 65
    assert f"journal/{name}, bytes " in err
    assert desk.listing() == before
    code, out, _ = desk.run("verify", "--accept-damage")
    assert code == 0
    assert out.startswith(f"accepted: journal/{name}, bytes ")
    assert "starts halted: look at its orders and positions, then `zq-daemon activate`" in out
    code, out, err = desk.run("verify")
    assert (code, err) == (0, "")
    assert f"damage that was accepted: journal/{name}" in out
    assert desk.run("verify", "--accept-damage")[1] == "there is no damage to accept\n"
    assert desk.run("compact")[0] == 0
    code, out, err = desk.run("verify")
    assert (code, err) == (0, "")
    assert "replay from the checkpoint leads to the same as the whole history" in out
    assert desk.run("rebuild-history")[0] == 0


def test_a_newer_version_is_left_alone(desk: Desk) -> None:
    desk.damage(desk.segments[-1], 8, b"\x63\0\0\0")
    data = bytearray(desk.segments[-1].read_bytes())
    _seal_header(data)
    desk.segments[-1].write_bytes(data)
    before = desk.listing()
    for command in ("verify", "dump", "compact"):
        code, _, err = desk.run(command)
        assert code in (65, 70)
        assert "has format version 99" in err
    assert desk.listing() == before


def _seal_header(data: bytearray) -> None:
    """Make the header's checksum right again."""
    size = struct.unpack_from("<I", data, 12)[0]
    struct.pack_into("<Q", data, size, zlib.crc32(data[:size]))


def test_damaged_checkpoints_are_named_and_done_without(desk: Desk) -> None:
    desk.run("compact")
    (checkpoint,) = desk.journal.glob("checkpoint-*")
    desk.damage(checkpoint, 900, b"\xff")
    code, _, err = desk.run("verify")
    assert code == 65
    assert f"damaged: journal/{checkpoint.name}: is damaged at byte" in err
    assert "an older one and the archive are used in its place" in err
    assert f"delete it, then `zq-daemon journal compact --config {desk.root}/config.toml`" in err
    assert desk.run("compact")[1].splitlines()[0].startswith(f"not used: journal/{checkpoint.name}")
    archived = sorted((desk.journal / "archive").iterdir())
    desk.damage(archived[0], 200, b"\0\0\0\0\0\0")
    code, _, err = desk.run("verify")
    assert code == 65
    assert f"journal/archive/{archived[0].name}: is damaged" in err
    archived[0].unlink()
    code, _, err = desk.run("verify")
    assert code == 65
    assert "records 1 to" in err
    assert "put the files that are missing back" in err


def test_a_consumer_ahead_of_the_journal(desk: Desk) -> None:
    trio.run(register, SystemDisk(desk.root / "var"), "bridge", 10_000)
    code, _, err = desk.run("verify")
    assert code == 65
    assert "consumer 'bridge' has read up to record 10000" in err


def test_a_daemon_that_runs_keeps_others_from_accepting(desk: Desk) -> None:
    flip_a_bit(desk)

    async def both() -> tuple[int, str, str]:
        disk = SystemDisk(desk.root / "var")
        async with open_log(disk, FOLDER, kind=KIND, settings=SMALL, rng=seeded_rng(1)):
            return await trio.to_thread.run_sync(desk.run, "verify", "--accept-damage")

    code, out, err = trio.run(both)
    assert (code, out) == (69, "")
    assert "held by process" in err
    assert "stop the daemon first" in err


@contextmanager
def as_nobody(desk: Desk) -> Iterator[None]:
    """Without the right to write; root has it always, and becomes somebody else."""
    folders = [desk.root, *(path for path in desk.root.rglob("*") if path.is_dir())]
    for path in desk.root.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    is_root = os.geteuid() == 0
    parents = [desk.root, *desk.root.parents][:4]
    modes = [parent.stat().st_mode for parent in parents]
    try:
        for parent in parents if is_root else ():
            parent.chmod(parent.stat().st_mode | 0o055)
        desk.root.chmod(0o555)
        if is_root:
            os.seteuid(65_534)
        yield
    finally:
        if is_root:
            os.seteuid(0)
        for parent, mode in zip(parents, modes, strict=True):
            parent.chmod(mode & 0o7777)
        for folder in folders:
            folder.chmod(0o755)


def test_a_folder_that_cannot_be_written_to(desk: Desk) -> None:
    for command in ("verify", "compact", "rebuild-history"):
        desk.run(command)  # what they import must not have to be read by somebody else
    with as_nobody(desk):
        assert desk.run("verify")[0] == 0
        assert desk.run("dump")[0] == 0
        for arguments in (["compact"], ["rebuild-history"], ["verify", "--accept-damage"]):
            code, out, err = desk.run(*arguments)
            assert (code, out) == (70, "")
            assert "Permission denied" in err
