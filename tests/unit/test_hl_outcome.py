"""Every documented refusal has a name of ours, in every dress in which the venue may send it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from zq_daemon.model.ids import client_order_id
from zq_daemon.venue.hyperliquid.outcome import RefusalCode, outcomes, refusal_code
from zq_daemon.venue.hyperliquid.wire import PostResponse
from zq_daemon.venue.interface import Acknowledged, Ambiguous, Outcome, Refused, Request

ORDER_ERRORS = {
    "Price must be divisible by tick size.": "tick",
    "Order must have minimum value of $10.": "min_notional",
    "Order must have minimum value of 10 USDC.": "min_notional",
    "Insufficient margin to place order.": "margin",
    "Insufficient spot balance": "balance",
    "Reduce only order would increase position.": "reduce_only",
    "Post only order would have immediately matched, bbo was 1891.4@1891.5.": "post_only_crossed",
    "Order could not immediately match against any resting orders.": "ioc_unmatched",
    "Invalid TP/SL price.": "trigger_price",
    "No liquidity available for market order.": "no_liquidity",
    "Order would increase open interest while open interest is capped": "open_interest",
    "Order would increase open interest too quickly": "open_interest",
    "Order rejected due to price more aggressive than oracle while at open interest cap": (
        "open_interest"
    ),
    "Order price too far from oracle": "oracle",
    "Order would cause position to exceed margin tier limit at current leverage": "max_position",
    "Order price cannot be more than 80% away from the reference price": "oracle",
    "Order value too large. Max is $5000000.": "max_position",
    "Too many open orders": "open_orders",
    "Order was never placed, already canceled, or filled.": "missing_order",
    "Cannot modify canceled or filled order": "missing_order",
    "Order has invalid price.": "invalid_price",
    "Order has invalid size.": "invalid_quantity",
    "Order has zero size.": "invalid_quantity",
    "Only post-only orders allowed immediately after a network upgrade": "post_only_period",
    "Main order cannot be trigger order.": "grouping",
}
"""Told of one order, or of a whole request."""

REQUEST_ERRORS = {
    "User or API Wallet 0x14791697260e4c9a71f18484c9f997b308e59325 does not exist.": "signer",
    "Must deposit before performing actions. User: 0x14791697260e4c9a71f18484c9f997b308e59325": (
        "signer"
    ),
    "Vault not registered: 0x14791697260e4c9a71f18484c9f997b308e59325": "vault",
    "Invalid nonce: nonce too low": "nonce",
    "Action expired: expiresAfter 1700000000000": "expired",
    "Too many cumulative requests sent (10001 > 10000) for cumulative volume traded $0.00.": (
        "rate_limit"
    ),
    "Scheduled cancel time too early, must be at least 5 seconds from now.": "schedule",
    "Cannot set scheduled cancel time until enough volume traded. Required: $1000000.": "schedule",
    "Invalid leverage value": "leverage",
    "Cross margin is not allowed for this asset.": "leverage",
    "Too many requests": "rate_limit",
    "Too many words nobody has ever seen": "other",
}
"""Told of a whole request."""

UNKNOWN_FATE = (
    "Invalid nonce: duplicate nonce 1700000000000",
    "Request timed out",
    "Timeout waiting for the block",
    "Internal error",
    "Service unavailable, try again",
    "Overloaded",
    "Unknown error",
)
"""Said of a whole request, they do not prove that it had no effect."""

PREFIXES = ("", "L1 error: ", "Error: ", "error processing action: ", "\n ")
SUFFIXES = ("", " asset=3", " (user=0xabc)", "\n")


def request(count: int = 1, kind: str = "submit") -> Request:
    return Request(
        kind=kind,
        client_order_ids=tuple(client_order_id(1, number) for number in range(count)),
        nonce=1,
        expires_ns=None,
        action_hash=b"",
        payload=b"",
    )


def of_orders(*statuses: Any) -> PostResponse:
    return of_request({"type": "order", "data": {"statuses": list(statuses)}}, "ok")


def of_request(response: Any, status: str = "err") -> PostResponse:
    payload = msgspec.json.encode({"status": status, "response": response})
    return PostResponse(kind="action", payload=msgspec.Raw(payload))


def of_server(text: str) -> PostResponse:
    return PostResponse(kind="error", payload=msgspec.Raw(msgspec.json.encode(text)))


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(("text", "code"), ORDER_ERRORS.items())
def test_a_refused_order_has_our_name_for_it(text: str, code: str, prefix: str, suffix: str):
    told = f"{prefix}{text}{suffix}"
    for spelling in (told, told.upper(), told.lower()):
        assert refusal_code(spelling) == code
    good = {"resting": {"oid": 5}}
    found = outcomes(request(3), of_orders(good, {"error": told}, good))
    acknowledged = Acknowledged(venue_order_id="5")
    assert found == [acknowledged, Refused(code=code, text=told), acknowledged]
    assert outcomes(request(2), of_request(told)) == [Refused(code=code, text=told)] * 2


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize(("text", "code"), REQUEST_ERRORS.items())
def test_a_refused_request_has_our_name_for_it(text: str, code: str, prefix: str):
    told = prefix + text
    assert outcomes(request(2), of_request(told)) == [Refused(code=code, text=told)] * 2
    server = outcomes(request(2), of_server(f"422 {told}"))
    expected = "bad_request" if code == "other" else code
    assert server == [Refused(code=expected, text=f"422 {told}")] * 2


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("text", UNKNOWN_FATE)
def test_what_may_hide_a_live_order_is_ambiguous(text: str, prefix: str):
    found = outcomes(request(2), of_request(prefix + text))
    assert [type(each) for each in found] == [Ambiguous, Ambiguous]
    assert isinstance(outcomes(request(), of_server(f"422 {text}"))[0], Ambiguous)


def test_every_name_is_of_some_words():
    named = {*ORDER_ERRORS.values(), *REQUEST_ERRORS.values()}
    assert named == {str(code) for code in RefusalCode} - {"bad_request"}


@pytest.mark.parametrize("kind", ["schedule_cancel", "leverage"])
def test_a_request_about_no_order_has_one_outcome(kind: str):
    def outcome(response: PostResponse) -> Outcome:
        (found,) = outcomes(request(0, kind), response)
        return found

    assert outcome(of_request({"type": "default"}, "ok")) == Acknowledged(venue_order_id=None)
    refused = outcome(of_request("Invalid leverage value"))
    assert refused == Refused(code="leverage", text="Invalid leverage value")
    assert isinstance(outcome(of_server("500 no")), Ambiguous)
    assert isinstance(outcome(of_server("429 Too Many Requests")), Refused)


def test_what_is_kept_of_a_text_is_short():
    (found,) = outcomes(request(), of_request("Order has invalid price." + "x" * 10_000))
    assert isinstance(found, Refused)
    assert len(found.text) <= 300
