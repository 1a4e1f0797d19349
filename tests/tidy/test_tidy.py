"""Holds the project's hard rules, and shows that each rule notices when it is broken."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.tidy import rules
from tests.tidy.rules import Rule, Source

ROOT = Path(__file__).parents[2]
SOURCES = [
    Source(path.relative_to(ROOT).as_posix(), path.read_text())
    for path in sorted((ROOT / rules.PACKAGE).rglob("*.py"))
]
LINTED = [name for name in (rules.PACKAGE, "tests", "benchmarks") if (ROOT / name).exists()]
ABOUT_TEXT = ("tests/tidy/rules.py", "tests/tidy/test_tidy.py")
"""These name what they forbid."""


@pytest.fixture(scope="session")
def tracked() -> Sequence[str]:
    """The paths git knows; a source archive without git has nothing to check."""
    listed = _run("git", "ls-files", "-z")
    if listed.returncode:
        pytest.skip(f"not a git checkout: {listed.stderr.strip()}")
    return [path for path in listed.stdout.split("\0") if path and (ROOT / path).is_file()]


@pytest.mark.parametrize("rule", rules.SOURCE_RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps(rule: Rule) -> None:
    assert list(rule(SOURCES)) == []


@pytest.mark.parametrize("rule", rules.TEXT_RULES, ids=lambda rule: rule.__name__)
def test_tracked_files_keep(rule: rules.TextRule, tracked: Sequence[str]) -> None:
    problems = []
    for path in tracked:
        content = (ROOT / path).read_bytes()
        if path not in ABOUT_TEXT and b"\0" not in content:
            problems += rule(path, content.decode())
    assert problems == []


def test_the_top_level_holds_what_is_expected(tracked: Sequence[str]) -> None:
    assert list(rules.known_top_level(tracked)) == []


def test_every_exception_to_a_rule_is_still_needed() -> None:
    paths = {source.path for source in SOURCES}
    allowed = [path for path, _ in rules.OUTSIDE_ALLOWED]
    allowed += [function.partition(":")[0] for function in rules.WAITS_ALLOWED]
    assert {*rules.CONTAINMENT, *allowed} <= paths


@pytest.mark.parametrize(
    "command",
    [
        ["mypy", "--package", rules.PACKAGE],
        ["ruff", "check", "--no-cache", *LINTED],
        ["ruff", "format", "--no-cache", "--check", *LINTED],
    ],
    ids=" ".join,
)
def test_the_linters_are_content(command: Sequence[str]) -> None:
    checked = _run(sys.executable, "-m", *command)
    assert checked.returncode == 0, checked.stdout + checked.stderr


BROKEN: list[tuple[Rule, str, str]] = [
    (rules.layers, "core/x.py", "from zq_daemon.engine.data import DataEngine"),
    (rules.layers, "core/x.py", "import zq_daemon.venue.interface"),
    (rules.layers, "core/x.py", "def f():\n    from zq_daemon import daemon"),
    (rules.layers, "core/x.py", "from zq_daemon import run"),
    (rules.layers, "core/x.py", "if TYPE_CHECKING:\n    from zq_daemon.engine import data"),
    (rules.layers, "novel/x.py", ""),
    (rules.no_relative_imports, "core/x.py", "from .bus import MessageBus"),
    (rules.no_import_cycles, "core/x.py", "import zq_daemon.core.x"),
    (rules.core_is_synchronous, "core/x.py", "import trio"),
    (rules.core_is_synchronous, "model/x.py", "from trio_websocket import open_websocket"),
    (rules.core_is_synchronous, "core/x.py", "async def f(): ..."),
    (rules.no_test_only_imports, "venue/x.py", "from hyperliquid.info import Info"),
    (rules.short_functions, "core/x.py", "def f():\n" + "    f()\n" * 70),
    (rules.short_functions, "core/x.py", ("def f():\n" + "    f()\n" * 40) * 2),
    (rules.short_files, "core/x.py", "x = 1\n" * 601),
    (rules.short_files, "core/x.py", f"x = '{'x' * 95}'\n"),
    (rules.no_blanket_except, "core/x.py", "try: f()\nexcept Exception: ..."),
    (rules.no_blanket_except, "core/x.py", "try: f()\nexcept (ValueError, BaseException): ..."),
    (rules.no_blanket_except, "core/x.py", "try: f()\nexcept: ..."),
    (rules.no_blanket_except, "core/x.py", "try: f()\nexcept* builtins.Exception: ..."),
    (rules.no_blanket_except, "core/x.py", "with contextlib.suppress(Exception): f()"),
    (rules.no_blanket_except, "core/x.py", "try: f()\nexcept Exception: raise ValueError"),
    (rules.outside_only_in_ports, "core/x.py", "import time"),
    (rules.outside_only_in_ports, "engine/x.py", "from random import random"),
    (rules.outside_only_in_ports, "cli/x.py", "import concurrent.futures"),
    (rules.outside_only_in_ports, "cli/x.py", "now = datetime.now()"),
    (rules.outside_only_in_ports, "cli/x.py", "now = datetime.datetime.utcnow()"),
    (rules.outside_only_in_ports, "cli/x.py", "async def f(): await trio.to_thread.run_sync(g)"),
    (rules.bounded_channels, "engine/x.py", "trio.open_memory_channel(math.inf)"),
    (rules.bounded_channels, "engine/x.py", "open_memory_channel[int](float('inf'))"),
    (
        rules.no_sleep_polling,
        "engine/x.py",
        "async def f():\n while not ready():\n  await trio.sleep(1)",
    ),
    (
        rules.no_sleep_polling,
        "engine/x.py",
        "async def f():\n while True:\n  if ready():\n   return\n  await trio.sleep(1)",
    ),
    (rules.no_running_flags, "engine/x.py", "self._running = True"),
    (rules.no_running_flags, "engine/x.py", "while not stopping: step()"),
    (rules.no_drawers, "core/utils.py", ""),
    (rules.no_drawers, "venue/helpers/x.py", ""),
    (rules.documented_modules, "core/x.py", "x = 1"),
]
SOUND: list[tuple[Rule, str, str]] = [
    (rules.layers, "engine/x.py", "from zq_daemon.core.bus import MessageBus\nimport trio"),
    (rules.layers, "__init__.py", "from zq_daemon.daemon import run"),
    (rules.no_import_cycles, "core/x.py", "if TYPE_CHECKING:\n    import zq_daemon.core.x"),
    (rules.core_is_synchronous, "engine/x.py", "import trio"),
    (rules.no_test_only_imports, "venue/x.py", "import zq_daemon.venue.hyperliquid.sign"),
    (rules.short_functions, "core/x.py", "def f():\n" + "    f()\n" * 69),
    (rules.short_files, "core/x.py", "x = 1\n" * 600),
    (rules.no_blanket_except, "core/x.py", "try: f()\nexcept (ValueError, ExceptionGroup): ..."),
    (rules.no_blanket_except, "core/x.py", "try: f()\nexcept BaseException:\n g()\n raise"),
    (rules.no_blanket_except, "core/bus.py", "try: f()\nexcept Exception: ..."),
    (rules.no_blanket_except, "core/x.py", "with suppress(ValueError): f()"),
    (rules.outside_only_in_ports, "ports/clock.py", "import time"),
    (rules.outside_only_in_ports, "cli/x.py", "shown = datetime.fromtimestamp(ts, UTC)"),
    (rules.bounded_channels, "engine/x.py", "trio.open_memory_channel(limits.info)"),
    (
        rules.no_sleep_polling,
        "engine/x.py",
        "async def f():\n while True:\n  await trio.sleep(1)\n  tick()",
    ),
    (rules.no_running_flags, "engine/x.py", "if service.running: ..."),
    (rules.no_running_flags, "engine/x.py", "running = sum(each.enabled for each in all)"),
    (rules.no_drawers, "core/order_state.py", ""),
    (rules.documented_modules, "core/__init__.py", ""),
]


@pytest.mark.parametrize(("rule", "path", "text"), BROKEN)
def test_a_rule_notices(rule: Rule, path: str, text: str) -> None:
    assert list(rule([Source(f"{rules.PACKAGE}/{path}", text)]))


@pytest.mark.parametrize(("rule", "path", "text"), SOUND)
def test_a_rule_lets_pass(rule: Rule, path: str, text: str) -> None:
    assert list(rule([Source(f"{rules.PACKAGE}/{path}", text)])) == []


def test_every_rule_about_sources_is_tried() -> None:
    assert {rule for rule, _, _ in BROKEN} == set(rules.SOURCE_RULES)


def test_a_cycle_through_several_modules_is_named() -> None:
    sources = [
        Source("zq_daemon/core/a.py", "from zq_daemon.core import b"),
        Source("zq_daemon/core/b.py", "from zq_daemon.core.c import name"),
        Source("zq_daemon/core/c.py", "def f():\n    import zq_daemon.core.a"),
    ]
    found = list(rules.no_import_cycles(sources))
    assert len(found) == 1
    assert found[0].count("->") == 3
    assert list(rules.no_import_cycles(sources[:2])) == []


@pytest.mark.parametrize("word", ["TODO", "FIXME", "XXX", "HACK"])
def test_unfinished_work_is_noticed(word: str) -> None:
    assert list(rules.unfinished_work("a.py", f"x = 1\n# {word}: later")) == [
        "a.py:2: unfinished work"
    ]
    assert list(rules.unfinished_work("a.py", f"x{word} = 1")) == []


@pytest.mark.parametrize(
    "line",
    [
        "see https://index.example/simple/x",
        "pip install --extra-index-url https://example.org/ x",
        "-----BEGIN EC PRIVATE KEY-----",
        "token = ghp_" + "a" * 36,
        "key = AKIA" + "A" * 16,
        "cd /home/somebody/project",
        "capture in /work/data",
        'api_key = "0123456789abcdef0123"',
        "'agent_private_key': '0x0123456789abcdef0123'",
    ],
)
def test_foreign_things_are_noticed(line: str) -> None:
    assert list(rules.nothing_foreign("docs/x.md", f"fine\n{line}"))


@pytest.mark.parametrize(
    "line",
    ["usr/work/x", "https://api.hyperliquid.xyz/info", 'key_credential = "hyperliquid-agent-key"'],
)
def test_what_is_ours_is_not_foreign(line: str) -> None:
    assert list(rules.nothing_foreign("docs/x.md", line)) == []


def test_an_unexpected_file_at_the_top_level_is_noticed() -> None:
    paths = ["README.md", ".ci/run", "zq_daemon/errors.py", "constraints.txt", "scripts/x.sh"]
    assert len(list(rules.known_top_level(paths))) == 2


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
