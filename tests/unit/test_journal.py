"""Records survive their encoding, whatever is in them."""

from __future__ import annotations

from decimal import Decimal
from typing import get_args

import msgspec
import pytest
from attrs import evolve

from zq_daemon.journal.record import Intent, IntentKind
from zq_daemon.model.ids import (
    AccountId,
    ClientOrderId,
    InstrumentId,
    StrategyId,
    VenueOrderId,
)
from zq_daemon.model.market import Side
from zq_daemon.model.order import OrderType, TimeInForce

INTENT = Intent(
    kind="submit",
    run_id=2**64 - 1,
    account_id=AccountId("0xacc"),
    strategy_id=StrategyId("maker"),
    instrument_id=InstrumentId("hl.PURR/USDC"),
    client_order_id=ClientOrderId("0x1"),
    venue_order_id=None,
    side=Side.BUY,
    order_type=OrderType.LIMIT,
    time_in_force=TimeInForce.GTC,
    post_only=True,
    reduce_only=False,
    price=Decimal("0.10"),
    quantity=Decimal("1E+3"),
    nonce=1_700_000_000_000,
    expires_ns=None,
    action_hash="00ff",
    ts_event_ns=1_700_000_000_000_000_000,
)


@pytest.mark.parametrize("kind", get_args(IntentKind))
def test_a_record_survives(kind: IntentKind) -> None:
    record = evolve(INTENT, kind=kind, venue_order_id=VenueOrderId("77"), expires_ns=5)
    line = msgspec.json.encode(record)
    assert b"\n" not in line
    decoded = msgspec.json.decode(line, type=Intent)
    assert decoded == record
    assert str(decoded.quantity) == "1E+3"


def test_an_unknown_kind_is_refused() -> None:
    line = msgspec.json.encode(INTENT).replace(b'"submit"', b'"destroy"')
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(line, type=Intent)
