"""Identifiers: plain strings with distinct static types.

An instrument id is `<venue>.<symbol>`; the venue has no dot, the symbol is the venue's own name and
may hold any printable character (`hyperliquid.BTC`, `hyperliquid.@142`, `hyperliquid.PURR/USDC`).
A client order id is `0x` and 32 hexadecimal digits: 64 bits of run id, 64 bits of counter.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import NewType

Venue = NewType("Venue", str)
InstrumentId = NewType("InstrumentId", str)
AccountId = NewType("AccountId", str)
StrategyId = NewType("StrategyId", str)
ClientOrderId = NewType("ClientOrderId", str)
VenueOrderId = NewType("VenueOrderId", str)
TradeId = NewType("TradeId", str)

RESERVED_OWNERS = frozenset({"daemon", "execution", "external"})
"""Owners of orders and of places on the bus that are no strategies: no strategy has their name."""

EXTERNAL_RUN_ID = 0
"""The run id in the client order ids of orders that were not ours; no run of the daemon has it."""

VENUE_PATTERN = re.compile(r"[a-z][a-z0-9_-]{0,31}")


def instrument_id(venue: str, symbol: str) -> InstrumentId:
    """The id of *symbol* (the venue's own, case kept) at *venue*; ValueError if malformed."""
    if not VENUE_PATTERN.fullmatch(venue):
        raise ValueError(f"venue {venue!r}: lower-case letters, digits, '_' and '-' only")
    if not symbol or len(symbol) > 64 or not symbol.isprintable() or " " in symbol:
        raise ValueError(f"symbol {symbol!r}: 1 to 64 printable characters without spaces")
    return InstrumentId(f"{venue}.{symbol}")


def parse_instrument_id(text: str) -> InstrumentId:
    """Check *text* (`venue.symbol`) and return it as an id; ValueError says what is wrong."""
    venue, dot, symbol = text.partition(".")
    if not dot:
        raise ValueError(
            f"instrument {text!r}: expected '<venue>.<symbol>', e.g. 'hyperliquid.BTC'"
        )
    return instrument_id(venue, symbol)


def venue_of(instrument: InstrumentId) -> Venue:
    """The venue part of an instrument id."""
    return Venue(instrument.partition(".")[0])


def symbol_of(instrument: InstrumentId) -> str:
    """The symbol part of an instrument id, as the venue writes it."""
    return instrument.partition(".")[2]


def client_order_id(run_id: int, counter: int) -> ClientOrderId:
    """The *counter*-th client order id of run *run_id* (both unsigned 64-bit)."""
    if not (0 <= run_id < 1 << 64 and 0 <= counter < 1 << 64):
        raise ValueError("run id and counter are unsigned 64-bit integers")
    return ClientOrderId(f"0x{run_id:016x}{counter:016x}")


def external_client_order_id(account_id: AccountId, venue_order_id: VenueOrderId) -> ClientOrderId:
    """What an order without a client order id (one placed by hand) is tracked under.

    Always the same for the same order: 64 bits of digest where ours have the counter.
    """
    named = f"{account_id}\n{venue_order_id}".encode()
    digest = blake2b(named, digest_size=8).digest()
    return client_order_id(EXTERNAL_RUN_ID, int.from_bytes(digest, "big"))


def is_external(order_id: ClientOrderId) -> bool:
    """Whether *order_id* is of no run of the daemon, so that the venue may not know it.

    The venue's own id names such an order, whoever placed it.
    """
    return order_id.startswith(_EXTERNAL_PREFIX)


_EXTERNAL_PREFIX = f"0x{EXTERNAL_RUN_ID:016x}"
