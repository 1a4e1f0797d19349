"""Turns the errors the project raises on purpose into a message on stderr and an exit code.

Anything else is a defect and keeps its traceback (exit 1). Called by `cli.main`.
"""

from __future__ import annotations

from zq_daemon.errors import ZqError
from zq_daemon.exit_codes import ExitCode, exit_code_of
from zq_daemon.runtime.containment import leaves


def explain(error: BaseException) -> tuple[str, ExitCode] | None:
    """What to print and exit with; None if any part of *error* is not raised on purpose."""
    told = list(leaves(error))
    if not all(isinstance(leaf, ZqError) for leaf in told):
        return None
    text = "\n".join(dict.fromkeys(str(leaf) for leaf in told))
    return text, exit_code_of(told)
