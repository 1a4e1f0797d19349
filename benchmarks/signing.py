"""From an order to the bytes that are posted, beside the official SDK's own way there.

Both get an order as their users have it, and end with the JSON of a signed request. The SDK signs
with whatever `eth-keys` finds: Python of its own, or coincurve, which our environment has.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

from eth_account import Account
from hyperliquid.utils import signing
from hyperliquid.utils.types import Cloid

from benchmarks import values
from benchmarks.desk import order_entry
from benchmarks.measure import Case, Scale, nanoseconds
from benchmarks.report import Row, compared, duration
from zq_daemon.model.order import Order
from zq_daemon.ports.clock import SystemClock

_SECRET = b"\1" * 32
_BATCHES = (1, 40)
_BACKENDS = {
    "coincurve": "eth_keys.backends.CoinCurveECCBackend",
    "Python": "eth_keys.backends.NativeECCBackend",
}
_CHOICE = "ECC_BACKEND_CLASS"
"""Where `eth-keys` looks for its backend, at every signature."""


def run(scale: Scale) -> Iterator[Row]:
    """A row for one order, and one for as many as go into one request."""
    entry = order_entry(SystemClock())
    for count in _BATCHES:
        orders = [values.order(number, "few") for number in range(count)]
        cases = {"ours": Case("sign(orders)", {"sign": entry.prepare_submit, "orders": orders})}
        for name, backend in _BACKENDS.items():
            names = {"sign": sdk_signer(backend), "orders": [_sdk_order(each) for each in orders]}
            cases[name] = Case("sign(orders)", names)
        taken = nanoseconds(cases, scale)
        del os.environ[_CHOICE]
        yield Row(
            name=f"sign and encode a request with {count} order{'s' if count > 1 else ''}",
            figure=duration(taken["ours"]),
            against="; ".join(
                compared(f"the official SDK, keys in {name}", taken[name], taken["ours"])
                for name in _BACKENDS
            ),
            limit="less than the SDK",
            holds=taken["ours"] < taken["coincurve"],
        )


def sdk_signer(backend: str) -> Callable[[list[Any]], bytes]:
    """What the SDK does with orders until it posts them, keys by *backend*."""
    wallet = Account.from_key(_SECRET)

    def sign(orders: list[Any]) -> bytes:
        os.environ[_CHOICE] = backend
        wires = [signing.order_request_to_order_wire(order, 0) for order in orders]
        action = signing.order_wires_to_order_action(wires)
        nonce = signing.get_timestamp_ms()
        expires = nonce + 15_000
        payload = {
            "action": action,
            "nonce": nonce,
            "signature": signing.sign_l1_action(wallet, action, None, nonce, expires, True),
            "vaultAddress": None,
            "expiresAfter": expires,
        }
        return json.dumps(payload).encode()

    return sign


def _sdk_order(order: Order) -> dict[str, Any]:
    return {
        "coin": values.COIN,
        "is_buy": order.side.sign > 0,
        "sz": float(order.quantity),
        "limit_px": float(order.price or 0),
        "reduce_only": order.reduce_only,
        "order_type": {"limit": {"tif": "Gtc"}},
        "cloid": Cloid.from_str(order.client_order_id),
    }
