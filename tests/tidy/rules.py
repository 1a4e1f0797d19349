"""The hard rules a script can check: each takes sources and yields `path:line: what is wrong`.

Exceptions to a rule are listed here, each with its reason, and nowhere else. Called by `test_tidy`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import TypeGuard

from attrs import define, field

PACKAGE = "zq_daemon"

LAYERS = {
    "errors": 0,
    "exit_codes": 0,
    "model": 0,
    "version": 0,
    "config": 1,
    "core": 1,
    "ports": 1,
    "log": 2,
    "runtime": 2,
    "telemetry": 2,
    "journal": 3,
    "venue": 3,
    "engine": 4,
    "strategy": 4,
    "assembly": 5,
    "control": 5,
    "daemon": 5,
    "embedded": 5,
    "__init__": 6,
    "__main__": 6,
    "cli": 6,
}
"""A module imports from its own layer and from lower ones. A new package is given a layer here."""

CONTAINMENT = {
    "zq_daemon/core/bus.py": "one subscriber's fault keeps nobody else from the event",
    "zq_daemon/runtime/containment.py": "the one place that decides what a fault means",
}
"""Where `except Exception` is allowed."""

OUTSIDE_MODULES = frozenset(
    {
        "_thread",
        "asyncio",
        "concurrent",
        "multiprocessing",
        "random",
        "secrets",
        "select",
        "selectors",
        "socket",
        "ssl",
        "subprocess",
        "threading",
        "time",
    }
)
"""Modules of the standard library that touch time, sockets, threads, processes or randomness."""

OUTSIDE_ALLOWED: dict[tuple[str, str], str] = {}
"""Uses of `OUTSIDE_MODULES` outside `ports`: (path, module) and why."""

TEST_ONLY = frozenset({"eth_account", "eth_utils", "hyperliquid", "hypothesis", "pytest"})
"""Installed for the tests: oracles and tools, which the daemon itself runs without."""

WAITS_ALLOWED: dict[str, str] = {}
"""Loops that look like sleep-polling and are not: `path:function` and why."""

TOP_LEVEL = frozenset(
    {
        "CHANGELOG.md",
        "LICENSE",
        "Makefile",
        "README.md",
        "benchmarks",
        "config.toml.example",
        "docs",
        "pyproject.toml",
        "systemd",
        "tests",
        "zq_daemon",
    }
)
"""Everything else at the top level is a dotfile."""

MAX_FUNCTION_LINES = 70
LONG_FUNCTION_LINES = 40
MAX_LONG_FUNCTIONS = 0.03
MAX_FILE_LINES = 600
MAX_LINE = 100

_DRAWERS = frozenset(
    {"common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"}
)
_FLAG = re.compile(r"\b_?(is_|keep_)?(running|stopping|stopped)\b")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@define
class Source:
    """One Python file: *path* is relative to the project."""

    path: str
    text: str
    tree: ast.Module = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.tree = ast.parse(self.text, self.path)

    @property
    def parts(self) -> tuple[str, ...]:
        """The path's parts without the suffix."""
        return PurePosixPath(self.path).with_suffix("").parts

    @property
    def module(self) -> str:
        """Its dotted name."""
        parts = self.parts[:-1] if self.parts[-1] == "__init__" else self.parts
        return ".".join(parts)

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        """Every function and method, nested ones too."""
        return (node for node in ast.walk(self.tree) if isinstance(node, _FUNCTIONS))


@define(frozen=True)
class Import:
    """*target* is what is imported: a module, or a name in one; *typing*: for annotations only."""

    line: int
    target: str
    typing: bool


Rule = Callable[[Sequence[Source]], Iterator[str]]
TextRule = Callable[[str, str], Iterator[str]]


def layers(sources: Sequence[Source]) -> Iterator[str]:
    """A module imports from its own or lower layers; every package has a layer."""
    for source in sources:
        here = _unit(source.module)
        if here not in LAYERS:
            yield f"{source.path}:1: {here!r} has no layer"
            continue
        for each in _imports(source):
            there = _unit(each.target)
            if _is_ours(each.target) and LAYERS.get(there, 99) > LAYERS[here]:
                yield f"{source.path}:{each.line}: {here} (L{LAYERS[here]}) imports {there}"


def no_relative_imports(sources: Sequence[Source]) -> Iterator[str]:
    """Imports are absolute, so that the layers can be read off them."""
    for source in sources:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                yield f"{source.path}:{node.lineno}: relative import"


def no_import_cycles(sources: Sequence[Source]) -> Iterator[str]:
    """No module needs itself to be imported; imports for annotations only do not count."""
    graph = _import_graph(sources)
    finished: set[str] = set()
    for start in graph:
        cycle = _find_cycle(graph, start, [], finished)
        if cycle:
            yield f"import cycle: {' -> '.join(cycle)}"
            return


def core_is_synchronous(sources: Sequence[Source]) -> Iterator[str]:
    """The model and the core import no Trio and have no `async` in them."""
    for source in sources:
        if _unit(source.module) not in ("model", "core", "errors"):
            continue
        for each in _imports(source):
            if each.target.partition(".")[0].startswith("trio"):
                yield f"{source.path}:{each.line}: imports {each.target}"
        for function in source.functions():
            if isinstance(function, ast.AsyncFunctionDef):
                yield f"{source.path}:{function.lineno}: async def {function.name}"


def no_test_only_imports(sources: Sequence[Source]) -> Iterator[str]:
    """What is installed for the tests only is not imported by the package."""
    for source in sources:
        for each in _imports(source):
            if each.target.partition(".")[0] in TEST_ONLY:
                yield f"{source.path}:{each.line}: imports {each.target}, which only tests have"


def short_functions(sources: Sequence[Source]) -> Iterator[str]:
    """No function is over the limit, and few are long."""
    lengths = []
    for source in sources:
        for function in source.functions():
            length = (function.end_lineno or function.lineno) - function.lineno + 1
            lengths.append((length, f"{source.path}:{function.lineno}: {function.name}"))
    yield from (f"{name}: {n} lines" for n, name in lengths if n > MAX_FUNCTION_LINES)
    long = [f"{name} ({n})" for n, name in lengths if n > LONG_FUNCTION_LINES]
    if len(long) > max(1, len(lengths) * MAX_LONG_FUNCTIONS):
        share = f"{len(long)} of {len(lengths)} functions over {LONG_FUNCTION_LINES} lines"
        yield f"{share}: {', '.join(long)}"


def short_files(sources: Sequence[Source]) -> Iterator[str]:
    """Files and lines stay within their limits."""
    for source in sources:
        lines = source.text.splitlines()
        if len(lines) > MAX_FILE_LINES:
            yield f"{source.path}:1: {len(lines)} lines"
        for number, line in enumerate(lines, 1):
            if len(line) > MAX_LINE:
                yield f"{source.path}:{number}: {len(line)} characters"


def no_blanket_except(sources: Sequence[Source]) -> Iterator[str]:
    """Only the named containment points catch whatever comes; to tidy up and re-raise is fine."""
    for source in sources:
        if source.path in CONTAINMENT:
            continue
        for node in ast.walk(source.tree):
            if isinstance(node, ast.ExceptHandler) and _is_blanket(node.type) and _ends(node):
                yield f"{source.path}:{node.lineno}: catches everything"
        for node in _calls(source, "suppress"):
            if any(_is_blanket(each) for each in node.args):
                yield f"{source.path}:{node.lineno}: suppresses everything"


def outside_only_in_ports(sources: Sequence[Source]) -> Iterator[str]:
    """Time, sockets, threads, processes and randomness are touched in `ports` only."""
    for source in sources:
        if _unit(source.module) == "ports":
            continue
        for each in _imports(source):
            top = each.target.partition(".")[0]
            if top in OUTSIDE_MODULES and (source.path, top) not in OUTSIDE_ALLOWED:
                yield f"{source.path}:{each.line}: imports {top}"
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Attribute) and _reaches_outside(node):
                yield f"{source.path}:{node.lineno}: uses {ast.unparse(node)}"


def bounded_channels(sources: Sequence[Source]) -> Iterator[str]:
    """Every memory channel has a bound."""
    for source in sources:
        for node in _calls(source, "open_memory_channel"):
            if not node.args or re.search(r"\binf(inity)?\b", ast.unparse(node.args[0])):
                yield f"{source.path}:{node.lineno}: unbounded channel"


def no_sleep_polling(sources: Sequence[Source]) -> Iterator[str]:
    """Nothing waits for a condition by sleeping and looking again."""
    for source in sources:
        for function in source.functions():
            if f"{source.path}:{function.name}" in WAITS_ALLOWED:
                continue
            for node in _own_nodes(function):
                if isinstance(node, ast.While) and _polls(node):
                    yield f"{source.path}:{node.lineno}: sleeps and looks again"


def no_running_flags(sources: Sequence[Source]) -> Iterator[str]:
    """Tasks end by cancellation or because their channels close, not by a flag they look at."""
    for source in sources:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.While) and _FLAG.search(ast.unparse(node.test)):
                yield f"{source.path}:{node.lineno}: looks at a flag to know when to end"
            elif _is_stored_flag(node):
                yield f"{source.path}:{node.lineno}: keeps a flag to be looked at"


def no_drawers(sources: Sequence[Source]) -> Iterator[str]:
    """No module's name says that anything may be in it."""
    for source in sources:
        for part in source.parts:
            if part in _DRAWERS:
                yield f"{source.path}:1: a module named {part!r}"


def documented_modules(sources: Sequence[Source]) -> Iterator[str]:
    """Every module that holds something says what it owns."""
    for source in sources:
        if source.tree.body and not ast.get_docstring(source.tree):
            yield f"{source.path}:1: no module docstring"


def unfinished_work(path: str, text: str) -> Iterator[str]:
    """Nothing is left for later in a comment."""
    for number, line in enumerate(text.splitlines(), 1):
        if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", line):
            yield f"{path}:{number}: unfinished work"


_FOREIGN = {
    "a package index": r"index-url|/simple/|\bPIP_[A-Z_]*INDEX|find-links",
    "a private key": r"-----BEGIN [A-Z ]*PRIVATE KEY",
    "an access token": r"\b(AKIA[0-9A-Z]{16}|gh[pousr]_\w{30,}|xox[abp]-\w{10,}|sk-[\w-]{30,})",
    "a path on one machine": r"(?<![\w.~-])/(home|root|work|Users)/\w",
}
_SECRET = (
    r"(?i)\b\w*(secret|private_?key|password|api_?key)\w*['\"]?\s*[=:]\s*['\"][^'\"\s]{16,}['\"]"
)


def nothing_foreign(path: str, text: str) -> Iterator[str]:
    """No file names a package index, a secret or somebody's machine; test keys are in `tests`."""
    forbidden = dict(_FOREIGN)
    if not path.startswith("tests/"):
        forbidden["a secret"] = _SECRET
    for number, line in enumerate(text.splitlines(), 1):
        for what, pattern in forbidden.items():
            if re.search(pattern, line):
                yield f"{path}:{number}: mentions {what}"


def known_top_level(paths: Sequence[str]) -> Iterator[str]:
    """The top level holds the files everybody expects, and dotfiles."""
    for name in sorted({path.partition("/")[0] for path in paths}):
        if name not in TOP_LEVEL and not name.startswith("."):
            yield f"{name}: does not belong at the top level"


SOURCE_RULES: tuple[Rule, ...] = (
    layers,
    no_relative_imports,
    no_import_cycles,
    core_is_synchronous,
    no_test_only_imports,
    short_functions,
    short_files,
    no_blanket_except,
    outside_only_in_ports,
    bounded_channels,
    no_sleep_polling,
    no_running_flags,
    no_drawers,
    documented_modules,
)
TEXT_RULES: tuple[TextRule, ...] = (unfinished_work, nothing_foreign)


def _unit(module: str) -> str:
    """What of the package has a layer: its first part below the root."""
    return module.split(".")[1] if "." in module else "__init__"


def _is_ours(target: str) -> bool:
    return target.partition(".")[0] == PACKAGE


def _imports(source: Source) -> Iterator[Import]:
    typing = _typing_only(source.tree)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(node.lineno, alias.name, node in typing)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                yield Import(node.lineno, f"{node.module}.{alias.name}", node in typing)


def _typing_only(tree: ast.Module) -> set[ast.AST]:
    """All nodes under an `if TYPE_CHECKING:`."""
    guards = (
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
    )
    return {below for guard in guards for each in guard.body for below in ast.walk(each)}


def _import_graph(sources: Sequence[Source]) -> dict[str, set[str]]:
    known = {source.module for source in sources}
    graph: dict[str, set[str]] = {module: set() for module in known}
    for source in sources:
        for each in _imports(source):
            target = each.target if each.target in known else each.target.rpartition(".")[0]
            if target in known and not each.typing:
                graph[source.module].add(target)
    return graph


def _find_cycle(
    graph: dict[str, set[str]], module: str, path: list[str], finished: set[str]
) -> list[str]:
    if module in path:
        return [*path[path.index(module) :], module]
    if module in finished:
        return []
    for target in sorted(graph[module]):
        cycle = _find_cycle(graph, target, [*path, module], finished)
        if cycle:
            return cycle
    finished.add(module)
    return []


def _is_blanket(caught: ast.expr | None) -> bool:
    if caught is None:
        return True
    if isinstance(caught, ast.Tuple):
        return any(_is_blanket(each) for each in caught.elts)
    return ast.unparse(caught).rpartition(".")[2] in ("Exception", "BaseException")


def _ends(handler: ast.ExceptHandler) -> bool:
    """Whether the exception ends here rather than being raised again."""
    last = handler.body[-1]
    return not (isinstance(last, ast.Raise) and last.exc is None)


def _calls(source: Source, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Call) and _called(node) == name:
            yield node


def _is_stored_flag(node: ast.AST) -> TypeGuard[ast.Attribute]:
    if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Store):
        return False
    return _FLAG.fullmatch(node.attr) is not None


def _called(node: ast.Call) -> str:
    """The last name of what is called; `open_memory_channel[T](1)` counts as itself."""
    function = node.func.value if isinstance(node.func, ast.Subscript) else node.func
    return ast.unparse(function).rpartition(".")[2]


def _reaches_outside(node: ast.Attribute) -> bool:
    owner = ast.unparse(node.value).rpartition(".")[2]
    wall_clock = owner in ("datetime", "date") and node.attr in ("now", "utcnow", "today")
    return wall_clock or (owner == "trio" and node.attr in ("to_thread", "from_thread"))


def _own_nodes(root: ast.AST) -> Iterator[ast.AST]:
    """All nodes below *root* that are not in a nested function."""
    for node in ast.iter_child_nodes(root):
        if not isinstance(node, (*_FUNCTIONS, ast.Lambda)):
            yield node
            yield from _own_nodes(node)


def _polls(loop: ast.While) -> bool:
    nodes = list(_own_nodes(loop))
    if not any(isinstance(node, ast.Await) and _sleeps(node) for node in nodes):
        return False
    if not (isinstance(loop.test, ast.Constant) and loop.test.value):
        return True
    return any(
        isinstance(node, ast.If) and isinstance(node.body[-1], ast.Break | ast.Return)
        for node in nodes
    )


def _sleeps(node: ast.Await) -> bool:
    return isinstance(node.value, ast.Call) and _called(node.value) == "sleep"
