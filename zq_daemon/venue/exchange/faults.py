"""Deliberate misbehaviour of the embedded exchange: for simulation and tests only.

Owns what is wrong, and how often counted faults have yet to happen. It does nothing itself:
exchange, feeds, clients and server ask it. Assigned as `Exchange.faults`, which begins every count
anew. Only shares are decided by chance, and that by a seed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from http import HTTPStatus
from typing import Any, Literal

from attrs import Attribute, field, frozen
from attrs.validators import ge, le, max_len

from zq_daemon.ports.clock import NS_PER_MS
from zq_daemon.ports.rng import seeded_rng
from zq_daemon.venue.exchange.account import UserFill

ActionKind = Literal["any", "order", "cancel", "modify"]
Endpoint = Literal["any", "info", "exchange"]
POST_ONLY_TEXT = "Only post-only orders allowed immediately after a network upgrade"
_KINDS: Mapping[str, ActionKind] = {
    "order": "order",
    "cancel": "cancel",
    "cancelByCloid": "cancel",
    "modify": "modify",
    "batchModify": "modify",
}
_FILLS = '"fills":['
_DAY_MS = 86_400_000
_SENT_CODES = frozenset({1000, 1001, 1002, 1003, *range(1007, 1015)})
_OWN_CODES = range(3000, 5000)


def _close_code(_: Any, attribute: Attribute[int], code: int) -> None:
    if code and code not in _SENT_CODES and code not in _OWN_CODES:
        raise ValueError(f"{attribute.name}: {code} is no code that a close frame may have")


def _http_error(_: Any, attribute: Attribute[int], status: int) -> None:
    if status and not 400 <= status <= 599:
        raise ValueError(f"{attribute.name}: expected 400 to 599, got {status}")


_SHARE = [ge(Decimal(0)), le(Decimal(1))]


@frozen(kw_only=True)
class Faults:
    """What the exchange does wrong on purpose; by default nothing. Times are milliseconds.

    Answers to posts, and over HTTP to actions: *reply_latency_ms* delays one (its effect has
    happened); *drop_replies* never gives one, *drop_reply_count* does not give the next ones. The
    next *cut_before_execute* actions of kind *cut_action* are lost with their connection; after
    those, the next *cut_after_execute* take effect, and the connection is lost before anything is
    told.

    Errors: the next *http_error_count* requests for *http_error_path*, and a share of
    *http_error_share* of them all, are answered with the status *http_error* (a post: with an error
    that begins with it), as if not executed; or executed all the same with *http_error_executes*.

    Orders: for *post_only_ms* from now on only post-only ones are let in, as after an upgrade of
    the network. The next *strange_status_count* order updates say *strange_status*, and so do the
    next *strange_reply_count* statuses in answers to orders.

    Cancels: *cancel_latency_ms* delays the effect and the answer of a posted cancel, whether the
    connection lasts or not. *refuse_cancels* answers every cancel with the venue's error while the
    order lives; *refuse_cancel_count* does so for the first orders to be cancelled, each time. Of
    the others, the first *fill_on_cancel_count* are filled at their price when the cancel arrives.

    Queries: *forget_orders* answers `unknownOid` to every order status query, *forget_order_count*
    to the next ones about orders there are.

    Private streams: *private_latency_ms* delays what they tell, in order. Of the messages but for
    the snapshot after subscribing, *drop_private* loses each, *drop_private_count* the next ones,
    *drop_private_share* that share. *repeat_fills* tells fills twice, *repeat_fill_count* the next
    messages of them. *withhold_fills* tells nobody of the fills from now on until it is over, also
    not who asks for them. *swap_modifies* tells that the old order of a modify is cancelled after
    what became of the new one, *swap_modify_count* does so for the next ones.

    Connections: *freeze_data* sends no market data (nor private) while pongs still come; *mute*
    sends nothing at all; *deaf* ignores whatever clients of a WebSocket send.
    *refuse_connections* hangs up on every new connection; the next *half_open_count* connections
    are accepted, and then neither read nor written. *close_code* closes every WebSocket there is
    with that code; *close_after_ms* closes each new one after so long, with that code or, without
    one, by hanging up.

    Time: *clock_skew_ms* is added to the wall clock by which the exchange judges and tells.

    *seed* decides which are the shares.
    """

    reply_latency_ms: int = field(default=0, validator=ge(0))
    drop_replies: bool = False
    drop_reply_count: int = field(default=0, validator=ge(0))
    cut_before_execute: int = field(default=0, validator=ge(0))
    cut_after_execute: int = field(default=0, validator=ge(0))
    cut_action: ActionKind = "order"
    http_error: int = field(default=0, validator=_http_error)
    http_error_path: Endpoint = "any"
    http_error_count: int = field(default=0, validator=ge(0))
    http_error_share: Decimal = field(default=Decimal(0), validator=_SHARE)
    http_error_executes: bool = False
    post_only_ms: int = field(default=0, validator=ge(0))
    strange_status: str = field(default="gazumped", validator=max_len(64))
    strange_status_count: int = field(default=0, validator=ge(0))
    strange_reply_count: int = field(default=0, validator=ge(0))
    cancel_latency_ms: int = field(default=0, validator=ge(0))
    refuse_cancels: bool = False
    refuse_cancel_count: int = field(default=0, validator=ge(0))
    fill_on_cancel_count: int = field(default=0, validator=ge(0))
    forget_orders: bool = False
    forget_order_count: int = field(default=0, validator=ge(0))
    private_latency_ms: int = field(default=0, validator=ge(0))
    drop_private: bool = False
    drop_private_count: int = field(default=0, validator=ge(0))
    drop_private_share: Decimal = field(default=Decimal(0), validator=_SHARE)
    repeat_fills: bool = False
    repeat_fill_count: int = field(default=0, validator=ge(0))
    withhold_fills: bool = False
    swap_modifies: bool = False
    swap_modify_count: int = field(default=0, validator=ge(0))
    freeze_data: bool = False
    mute: bool = False
    deaf: bool = False
    refuse_connections: bool = False
    half_open_count: int = field(default=0, validator=ge(0))
    close_code: int = field(default=0, validator=_close_code)
    close_after_ms: int = field(default=0, validator=ge(0))
    clock_skew_ms: int = field(default=0, validator=[ge(-_DAY_MS), le(_DAY_MS)])
    seed: int = field(default=0, validator=ge(0))


def error_text(status: int) -> str:
    """An HTTP status in words, as a failed request is answered."""
    known = {each.value: each.phrase for each in HTTPStatus}
    return f"{status} {known.get(status, 'Unknown Error')}"


class Misbehaviour:
    """*faults* in force since *now_ns* of the wall clock, and what is left of those counted."""

    def __init__(self, faults: Faults, now_ns: int = 0) -> None:
        self.faults = faults
        self._since_ns = now_ns
        self._left: dict[str, int] = {}
        self._refused: set[str] = set()
        self._rng = seeded_rng(faults.seed)

    def cuts_before(self, action: str) -> bool:
        """Whether a posted action of that type is lost; `` is no action."""
        return self._is_cut(action) and self._happens("cut_before_execute")

    def cuts_after(self, action: str) -> bool:
        """Whether the connection is lost after a posted action of that type took effect."""
        return self._is_cut(action) and self._happens("cut_after_execute")

    def drops_reply(self) -> bool:
        """Whether this answer is never given."""
        return self.faults.drop_replies or self._happens("drop_reply_count")

    def http_error(self, path: Endpoint) -> int | None:
        """The status to answer this request for *path* with, instead of what there is to say."""
        faults = self.faults
        if not faults.http_error or faults.http_error_path not in ("any", path):
            return None
        fails = self._happens("http_error_count") or self._is_of(faults.http_error_share)
        return faults.http_error if fails else None

    def is_post_only(self, now_ns: int) -> bool:
        """Whether only post-only orders are let in."""
        return now_ns - self._since_ns < self.faults.post_only_ms * NS_PER_MS

    def status(self, status: str) -> str:
        """What an order update says where *status* is true."""
        return self.faults.strange_status if self._happens("strange_status_count") else status

    def reply(self, status: Any) -> Any:
        """What the answer to an order says where *status* is true."""
        return self.faults.strange_status if self._happens("strange_reply_count") else status

    def refuses_cancel(self, order: str) -> bool:
        """Whether *order* cannot be cancelled, now and from now on."""
        if len(self._refused) < self.faults.refuse_cancel_count:
            self._refused.add(order)
        return self.faults.refuse_cancels or order in self._refused

    def fills_instead(self) -> bool:
        """Whether an order whose cancel has arrived is filled first."""
        return self._happens("fill_on_cancel_count")

    def forgets_order(self) -> bool:
        """Whether the exchange says of an order it has that it has none."""
        return self.faults.forget_orders or self._happens("forget_order_count")

    def copies(self, text: str) -> int:
        """How often the message *text* of a private stream is sent."""
        faults = self.faults
        if (
            faults.drop_private
            or self._happens("drop_private_count")
            or self._is_of(faults.drop_private_share)
        ):
            return 0
        if _FILLS not in text:
            return 1
        if faults.withhold_fills:
            return 0
        return 2 if faults.repeat_fills or self._happens("repeat_fill_count") else 1

    def told_fills(self, fills: Iterable[UserFill]) -> Iterable[UserFill]:
        """Those of *fills* that anybody may know of."""
        if not self.faults.withhold_fills:
            return fills
        since_ns = self.told_ns(self._since_ns)
        return (fill for fill in fills if fill.time_ms * NS_PER_MS < since_ns)

    def swaps_modify(self) -> bool:
        """Whether this modify's cancellation is told last."""
        return self.faults.swap_modifies or self._happens("swap_modify_count")

    def is_half_open(self) -> bool:
        """Whether this new connection is neither read nor written."""
        return self._happens("half_open_count")

    def told_ns(self, now_ns: int) -> int:
        """The wall clock as the exchange has it, when it is *now_ns*."""
        return now_ns + self.faults.clock_skew_ms * NS_PER_MS

    def _happens(self, name: str) -> bool:
        """Whether the counted fault *name* has to happen once more; then it does so now."""
        left: int = self._left.setdefault(name, getattr(self.faults, name))
        self._left[name] = max(left - 1, 0)
        return left > 0

    def _is_of(self, share: Decimal) -> bool:
        return bool(share) and self._rng.random() < share

    def _is_cut(self, action: str) -> bool:
        wanted = self.faults.cut_action
        return bool(action) and (wanted == "any" or wanted == _KINDS.get(action))
