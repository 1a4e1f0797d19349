"""What an operator can tell a running daemon: the verbs of the control socket.

Owns their names, what they take and how their outcome is worded. It decides nothing: the daemon
and its parts do. A verb that waits does so in its client's task, so that nobody else waits along.
`daemon` serves `handlers(self)`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from zq_daemon.control import cancel, orders, positions, reconcile
from zq_daemon.control.arguments import Arguments, BadRequest
from zq_daemon.control.names import find_hosted
from zq_daemon.control.server import Handler
from zq_daemon.model.command import CancelAllOrders
from zq_daemon.model.event import TradingState

if TYPE_CHECKING:
    from zq_daemon.assembly import Assembly
    from zq_daemon.config.schema import DaemonConfig

_log = structlog.get_logger("zq.control")

_Request = Mapping[str, Any]
_BY = "control socket"


class Controlled(Protocol):
    """What the verbs need of the daemon."""

    @property
    def config(self) -> DaemonConfig:
        """The configuration in force."""

    @property
    def parts(self) -> Assembly:
        """The running parts; ControlError while there are none yet."""

    def status(self) -> dict[str, Any]:
        """Everything about the daemon, JSON-ready."""

    def stop(self, reason: str) -> None:
        """Begin a graceful stop."""

    def reload(self) -> Mapping[str, Any]:
        """Read the configuration again; what came of it, JSON-ready."""


def handlers(daemon: Controlled) -> Mapping[str, Handler]:
    """Every verb by the name a client sends."""
    verbs = _Verbs(daemon)
    return {
        "status": verbs.status,
        "stop": verbs.stop,
        "reload": verbs.reload,
        "halt": verbs.halt,
        "activate": verbs.activate,
        "resume": verbs.resume,
        "cancel-all": verbs.cancel_all,
        "orders": verbs.orders,
        "positions": verbs.positions,
        "reconcile": verbs.reconcile,
    }


class _Verbs:
    def __init__(self, daemon: Controlled) -> None:
        self._daemon = daemon
        # Half of the clients at most may wait for the venue: the others still get an answer.
        self._reconcile = reconcile.Reconcile()
        self._cancel_all = cancel.CancelAll(max(daemon.config.limits.control_clients // 2, 1))

    def status(self, request: _Request) -> dict[str, Any]:
        Arguments(request)
        return self._daemon.status()

    def stop(self, request: _Request) -> str:
        self._daemon.stop(_by(request))
        return "stopping"

    def reload(self, request: _Request) -> Mapping[str, Any]:
        Arguments(request)
        return self._daemon.reload()

    def halt(self, request: _Request) -> str:
        reason, parts = _by(request), self._daemon.parts
        before = parts.risk.state
        parts.kill(reason)
        if before is not TradingState.HALTED:
            return "halted: no order leaves, open ones are cancelled"
        # Whatever it was halted for, who pulls the switch wants no open orders.
        _log.warning("halted already, cancelling all orders", by=reason)
        parts.bus.send("order.cancel_all", CancelAllOrders())
        return f"halted already ({parts.risk.state_reason}): open orders are cancelled"

    def activate(self, request: _Request) -> str:
        reason, parts = _by(request), self._daemon.parts
        before = parts.risk.state
        parts.activate(reason)
        told = "active already" if before is TradingState.ACTIVE else "active"
        halted = [one["name"] for one in parts.strategies.status() if one["state"] == "halted"]
        if halted:
            told += f"; strategies that are still halted: {', '.join(halted)} (resume each)"
        return told

    def resume(self, request: _Request) -> str:
        name = Arguments(request, ("strategy",)).text("strategy")
        if name is None:
            raise BadRequest("strategy: which one?")
        strategies = self._daemon.parts.strategies
        strategies.resume(find_hosted(self._daemon.parts, name))
        return f"{name} is {strategies.state(name).value}"

    async def cancel_all(self, request: _Request) -> dict[str, Any]:
        asked = Arguments(request, cancel.TAKES)
        return await self._cancel_all.run(self._daemon.parts, asked)

    async def orders(self, request: _Request) -> dict[str, Any]:
        asked = Arguments(request, orders.TAKES)
        return await orders.list_orders(self._daemon.parts, asked)

    def positions(self, request: _Request) -> dict[str, Any]:
        asked = Arguments(request, positions.TAKES)
        return positions.list_positions(self._daemon.parts, asked)

    async def reconcile(self, request: _Request) -> dict[str, Any]:
        asked = Arguments(request, reconcile.TAKES)
        return await self._reconcile.run(self._daemon.parts, asked)


def _by(request: _Request) -> str:
    """Who asked, and why if that was said: what status and log tell as the reason."""
    reason = Arguments(request, ("reason",)).text("reason")
    return _BY if reason is None else f"{_BY}: {reason}"
