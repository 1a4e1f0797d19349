"""Client order ids of our runs and of orders that were not ours."""

from __future__ import annotations

import re

import pytest

from zq_daemon.model.ids import (
    AccountId,
    VenueOrderId,
    client_order_id,
    external_client_order_id,
    is_external,
)

ME, OTHER = AccountId("hyperliquid.0x1"), AccountId("hyperliquid.0x2")


def test_an_external_order_always_has_the_same_id_of_the_usual_form() -> None:
    made = external_client_order_id(ME, VenueOrderId("91490942"))
    assert made == "0x0000000000000000440b7a18d5a29081"
    assert re.fullmatch(r"0x[0-9a-f]{32}", made)
    assert is_external(made)


def test_external_orders_of_other_accounts_and_numbers_have_other_ids() -> None:
    made = {
        external_client_order_id(account, VenueOrderId(number))
        for account in (ME, OTHER)
        for number in ("1", "2", "11", "x", "")
    }
    assert len(made) == 10


@pytest.mark.parametrize("run_id", [1, 1 << 63, (1 << 64) - 1])
def test_no_order_of_a_run_looks_external(run_id: int) -> None:
    for counter in (0, 1, (1 << 64) - 1):
        assert not is_external(client_order_id(run_id, counter))
