"""What each admitted action does, and the response it gets.

Owns nothing: orders are `trading`'s, accounts the administrator's, times the schedules'. Never
checks who asked, which the gate has done. Called by the exchange.
"""

from __future__ import annotations

from typing import Any

from zq_daemon.ports.clock import Clock
from zq_daemon.venue.exchange import actions as wire
from zq_daemon.venue.exchange.account import Account, UserOrder
from zq_daemon.venue.exchange.administer import DEFAULT, Administrator
from zq_daemon.venue.exchange.envelope import ActionError
from zq_daemon.venue.exchange.faults import POST_ONLY_TEXT
from zq_daemon.venue.exchange.feeds import Feeds
from zq_daemon.venue.exchange.messages import Json
from zq_daemon.venue.exchange.publisher import Publisher
from zq_daemon.venue.exchange.register import Register
from zq_daemon.venue.exchange.schedule import Schedules
from zq_daemon.venue.exchange.trading import GONE, Trading


class Performer:
    """Executes actions of accounts, one at a time, at the exchange's time `trading.now_ms`."""

    def __init__(
        self,
        clock: Clock,
        trading: Trading,
        register: Register,
        schedules: Schedules,
        publisher: Publisher,
        feeds: Feeds,
    ) -> None:
        self._clock = clock
        self._trading = trading
        self._register = register
        self._schedules = schedules
        self._publisher = publisher
        self._feeds = feeds
        self._administrator = Administrator(trading, register)

    def perform(self, account: Account, action: wire.Action) -> Json:
        """The response to *action*; raises ActionError when it is refused as a whole."""
        match action:
            case wire.Order():
                return _statuses("order", self._place(account, action))
            case wire.Cancel():
                wanted = [(each.a, each.o) for each in action.cancels]
                return _statuses("cancel", [self._cancel(account, *each) for each in wanted])
            case wire.CancelByCloid():
                named = [(each.asset, each.cloid) for each in action.cancels]
                return _statuses("cancel", [self._cancel(account, *each) for each in named])
            case wire.BatchModify():
                changes = [(each.oid, each.order) for each in action.modifies]
                return _statuses("order", [self._modify(account, *each) for each in changes])
            case wire.Modify():
                return _default_or_error(self._modify(account, action.oid, action.order))
            case wire.ScheduleCancel():
                self._schedules.choose(account.address, action.time, self._trading.now_ms)
                return DEFAULT
            case wire.UpdateLeverage():
                chosen = (action.asset, action.leverage, action.is_cross)
                problem = self._trading.set_leverage(account, *chosen)
                return _default_or_error({"error": problem} if problem else "success")
            case wire.Noop() | wire.ApproveBuilderFee():
                return DEFAULT
            case _:
                return self._administrator.perform(account, action)

    def cancel_all(self, address: str) -> None:
        """The time that the account chose has come."""
        account = self._register.account(address)
        for order in list(account.orders.values()):
            self._trading.withdraw(order, "scheduledCancel")

    def _place(self, account: Account, action: wire.Order) -> list[Any]:
        grouping = action.grouping if isinstance(action.grouping, str) else "na"
        let_in = [each for each in action.orders if not self._is_refused(each)]
        if len(let_in) < len(action.orders) and grouping != "na":
            return [{"error": POST_ONLY_TEXT} for _ in action.orders]
        found = (
            self._trading.place(account, let_in, grouping) if let_in or not action.orders else []
        )
        statuses = iter(found)
        return [
            {"error": POST_ONLY_TEXT} if self._is_refused(each) else self._told(next(statuses))
            for each in action.orders
        ]

    def _modify(self, account: Account, oid: int | str, wanted: wire.WireOrder) -> str | Json:
        if self._is_refused(wanted):
            return {"error": POST_ONLY_TEXT}
        old = self._trading.live_order(account, oid)
        status = self._told(self._trading.modify(account, oid, wanted))
        misbehaviour = self._feeds.misbehaviour
        if old is not None and old.status == "canceled" and misbehaviour.swaps_modify():
            self._publisher.tell_last(old)
        return status

    def _is_refused(self, wanted: wire.WireOrder) -> bool:
        """Whether a fault lets only post-only orders in, and it is none."""
        is_post_only = wanted.t.limit is not None and wanted.t.limit.tif == "Alo"
        return not is_post_only and self._feeds.misbehaviour.is_post_only(self._clock.now_ns())

    def _told(self, status: str | Json) -> str | Json:
        told: str | Json = self._feeds.misbehaviour.reply(status)
        return told

    def _cancel(self, account: Account, asset: int, oid: int | str) -> str | Json:
        order = self._trading.live_order(account, oid)
        if order is not None and self._feeds.misbehaviour.refuses_cancel(stable_name(order)):
            return {"error": GONE}
        return self._trading.cancel(account, asset, oid)


def stable_name(order: UserOrder) -> str:
    """What stays the same when the order is modified."""
    return f"{order.account}/{order.cloid or order.oid}"


def _statuses(kind: str, statuses: list[Any]) -> Json:
    return {"type": kind, "data": {"statuses": statuses}}


def _default_or_error(status: Any) -> Json:
    if isinstance(status, dict) and "error" in status:
        raise ActionError(status["error"])
    return DEFAULT
