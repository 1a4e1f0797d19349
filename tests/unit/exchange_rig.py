"""An embedded exchange without sockets: a clock set by hand, accounts with keys, a still market."""

from __future__ import annotations

import itertools
import json
from decimal import Decimal
from typing import Any

from zq_daemon.core.matching import MatchingBook
from zq_daemon.venue.exchange.exchange import Exchange
from zq_daemon.venue.exchange.listing import LISTED, PAIRS, TRADED
from zq_daemon.venue.hyperliquid.sign import AgentKey, action_hash, sign_l1_action

START_NS = 1_700_000_000_000_000_000
COINS = [each.name for each in (*TRADED, *PAIRS)]


class HandClock:
    """Shows what it is set to."""

    def __init__(self, now_ns: int = START_NS) -> None:
        self.ns = now_ns

    def now_ns(self) -> int:
        return self.ns

    def monotonic_ns(self) -> int:
        return self.ns

    def advance_ms(self, ms: int) -> None:
        self.ns += ms * 1_000_000


class StillMarket:
    """Books in which only users' orders are."""

    universe = LISTED
    pairs = PAIRS
    recorded = ()
    is_lossless = False

    def __init__(self) -> None:
        self.books = {each.name: MatchingBook() for each in (*LISTED, *PAIRS)}

    def matcher(self, coin):
        return self.books[coin]

    def oracle(self, coin):
        return None

    def listened(self, channel, coin, now_ns):
        return ()

    def delay_ns(self, coins):
        return 0

    def next_due_ns(self):
        return None

    def advance(self, now_ns, desk):
        raise AssertionError("nothing is ever due")


class User:
    """A key whose address is its own account."""

    def __init__(self, number: int) -> None:
        self.key = AgentKey.from_text(f"{number:064x}")
        self.address = self.key.address


class Rig:
    """An exchange and three users with accounts."""

    def __init__(self, market: Any = None, clock: Any = None, **options: Any) -> None:
        self.clock = clock or HandClock()
        options = {"strict_accounts": True, "balance": Decimal(10_000)} | options
        self.exchange = Exchange(self.clock, market or StillMarket(), **options)
        self.alice, self.bob, self.carol = (User(number) for number in (1, 2, 3))
        for user in (self.alice, self.bob, self.carol):
            self.exchange.open_account(user.address)
        self._nonces = itertools.count(START_NS // 1_000_000)

    def next_nonce(self) -> int:
        return next(self._nonces)

    def envelope(
        self,
        user: User,
        action: dict[str, Any],
        *,
        nonce: int | None = None,
        expires: int | None = None,
        vault: str | None = None,
        network: str = "mainnet",
    ) -> dict[str, Any]:
        number = next(self._nonces) if nonce is None else nonce
        digest = action_hash(action, number, vault, expires)
        return {
            "action": action,
            "nonce": number,
            "signature": sign_l1_action(user.key, digest, network).to_wire(),
            "vaultAddress": vault,
            "expiresAfter": expires,
        }

    def send(self, user: User, action: dict[str, Any], **options: Any) -> dict[str, Any]:
        return self.exchange.action(self.envelope(user, action, **options))

    def statuses(self, user: User, action: dict[str, Any], **options: Any) -> list[Any]:
        reply = self.send(user, action, **options)
        assert reply["status"] == "ok", reply
        return reply["response"]["data"]["statuses"]

    def place(self, user: User, side: str, price: str, size: str, **terms: Any) -> Any:
        orders = [wire_order(side, price, size, **terms)]
        (status,) = self.statuses(user, {"type": "order", "orders": orders, "grouping": "na"})
        return status

    def rest(self, user: User, side: str, price: str, size: str, **terms: Any) -> int:
        status = self.place(user, side, price, size, **terms)
        assert "resting" in status, status
        return status["resting"]["oid"]

    def cancel(self, user: User, oid: int, asset: int = 0) -> Any:
        cancels = [{"a": asset, "o": oid}]
        return self.statuses(user, {"type": "cancel", "cancels": cancels})[0]

    def info(self, kind: str, **query: Any) -> Any:
        return json.loads(json.dumps(self.exchange.info({"type": kind, **query})))

    def listen(self, *subscriptions: dict[str, Any]) -> Listener:
        listener = Listener(self.exchange)
        for subscription in subscriptions:
            self.exchange.subscribe(listener.connection, subscription)
        return listener


class Listener:
    """A connection whose messages are read as JSON."""

    def __init__(self, exchange: Exchange) -> None:
        self.connection = exchange.connect()

    def heard(self, channel: str | None = None) -> list[Any]:
        """What has come since last asked; with *channel*, the data of its messages only."""
        messages = [json.loads(text) for text in self.connection.outbox.drain()]
        if channel is None:
            return messages
        return [message["data"] for message in messages if message["channel"] == channel]


def wire_order(
    side: str,
    price: str,
    size: str,
    *,
    asset: int = 0,
    tif: str = "Gtc",
    reduce_only: bool = False,
    cloid: int | None = None,
) -> dict[str, Any]:
    order: dict[str, Any] = {
        "a": asset,
        "b": side == "buy",
        "p": price,
        "s": size,
        "r": reduce_only,
        "t": {"limit": {"tif": tif}},
    }
    if cloid is not None:
        order["c"] = f"0x{cloid:032x}"
    return order
