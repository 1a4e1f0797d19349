"""Every command that the documentation shows is one that the command line understands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from zq_daemon.cli.main import commands

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "systemd" / "README.md")
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
CALL = re.compile(r"^\$ (?:\S*/)?zq-daemon (.+)$", re.MULTILINE)


def documented() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for block in BLOCK.findall(page.read_text()):
            for call in CALL.findall(block):
                yield page.name, call


def parse(command: click.Command, words: list[str]) -> None:
    """As the command line would, but without doing anything; UsageError when it would not."""
    if not isinstance(command, click.Group):
        command.make_context(str(command.name), words)
        return
    name, rest = words[0], words[1:]
    found = command.commands.get(name)
    if found is None:
        raise click.UsageError(f"no such command {name!r}")
    parse(found, rest)


@pytest.mark.parametrize(("page", "call"), list(documented()))
def test_it_is_understood(page: str, call: str) -> None:
    try:
        parse(commands, shlex.split(call, comments=True))
    except click.UsageError as error:
        pytest.fail(f"{page}: zq-daemon {call}: {error.format_message()}")


def test_there_are_commands_to_look_at() -> None:
    assert len(list(documented())) >= 6
