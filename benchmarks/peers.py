"""`python -m benchmarks.peers [--quick]`: the same on NautilusTrader 2.x, and the ratios.

Makes an environment of its own, `.venv-peers`, with Python 3.12 or later (PEERS_PYTHON names one,
PEERS_VENV another folder), with the versions of peers-constraints.txt. Both sides are measured by
that one interpreter, where possible in one process and in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import duration, print_table, size, times

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = (ROOT / ".constraints.txt", ROOT / "benchmarks" / "peers-constraints.txt")
PEER = "nautilus_trader"
_OLDEST = (3, 12)
_HEADERS = ("what", "ours", PEER, "theirs in ours", "")
_WORDS = {"ns": duration, "bytes": size, "share": "{:.1%}".format}
_IN_RUST = "n/a: signed and sent inside its Rust client, out of Python's sight"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="less of everything")
    scale = "quick" if parser.parse_args().quick else "full"
    python = environment()
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.json"
        command = [str(python), "-m", "benchmarks.peers_nautilus", str(results), scale]
        print(f"measuring beside {PEER} …", file=sys.stderr, flush=True)
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        outcomes = json.loads(results.read_text())
    rows = [_row(*outcome) for outcome in outcomes]
    rows.append(("decision to bytes", "", _IN_RUST, "", ""))
    print_table(f"zq-daemon beside {PEER}, both on {_version_of(python)}", _HEADERS, rows)


def environment() -> Path:
    """The peers' interpreter, installed if it is not yet as the constraints say."""
    folder = Path(os.environ.get("PEERS_VENV", ROOT / ".venv-peers"))
    python, stamp = folder / "bin" / "python", folder / ".installed"
    wanted = "".join(path.read_text() for path in CONSTRAINTS)
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    print(f"making {folder} …", file=sys.stderr, flush=True)
    if not python.exists():
        subprocess.run([_interpreter(), "-m", "venv", folder], check=True)
    constraints = [f"--constraint={path}" for path in CONSTRAINTS]
    install = [
        str(python),
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--quiet",
        "--pre",
    ]
    subprocess.run([*install, *constraints, PEER, *_own_dependencies()], check=True)
    stamp.write_text(wanted)
    return python


def _interpreter() -> str:
    """A Python that is new enough for the peer."""
    named = os.environ.get("PEERS_PYTHON")
    found = (sys.executable, "python3.13", "python3.12", *_of_pyenv())
    for candidate in (named,) if named else found:
        if _is_new_enough(candidate):
            return candidate
    oldest = ".".join(map(str, _OLDEST))
    told = f"PEERS_PYTHON={named} is not" if named else "neither this nor python3.12 or 3.13 is"
    sys.exit(f"{PEER} needs Python {oldest} or later, and {told}: set PEERS_PYTHON to one")


def _of_pyenv() -> Sequence[str]:
    """Its python3.12 on PATH is none unless that version was made the current one."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    return [str(path) for path in sorted(root.glob("versions/3.1[2-9].*/bin/python"))]


def _is_new_enough(candidate: str) -> bool:
    asked = f"import sys; sys.exit(sys.version_info < {_OLDEST})"
    try:
        return (
            subprocess.run(
                [candidate, "-c", asked], check=False, stderr=subprocess.DEVNULL
            ).returncode
            == 0
        )
    except OSError:
        return False


def _own_dependencies() -> Sequence[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return list(project["dependencies"])


def _version_of(python: Path) -> str:
    told = subprocess.run([python, "--version"], check=True, capture_output=True, text=True)
    return told.stdout.strip()


def _row(name: str, own: float, peer: float, unit: str) -> Sequence[str]:
    words = _WORDS[unit]
    verdict = "[green]ahead[/]" if own < peer else "[red]behind[/]"
    return name, words(own), words(peer), times(peer, own), verdict


if __name__ == "__main__":
    main()
