"""The adapter's question who signs for whom, answered by the embedded exchange."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from attrs import evolve

from tests.venue_spec.hyperliquid import HyperliquidUnderTest, open_hyperliquid
from zq_daemon.config.schema import HyperliquidConfig
from zq_daemon.errors import CredentialError
from zq_daemon.ports.rng import seeded_rng
from zq_daemon.venue.hyperliquid.adapter import HyperliquidAdapter
from zq_daemon.venue.hyperliquid.sign import AgentKey
from zq_daemon.venue.interface import Credentials

pytestmark = pytest.mark.virtual

MASTER = "0x" + "a1" * 20
DAY_MS = 86_400_000


@asynccontextmanager
async def asking(
    venue: HyperliquidUnderTest, account: str, key: AgentKey | None = None
) -> AsyncIterator[HyperliquidAdapter]:
    """An adapter for *account*, by default with the key of an agent of MASTER."""
    config = evolve(HyperliquidConfig(), api_url="http://exchange", account=account)
    adapter = HyperliquidAdapter(
        config, venue.network, venue.clock, key or AgentKey(venue.secret), seeded_rng(1)
    )
    yield adapter
    await adapter.aclose()


async def checked(
    venue: HyperliquidUnderTest, account: str, key: AgentKey | None = None
) -> Credentials:
    async with asking(venue, account, key) as adapter:
        found = await adapter.check_credentials()
        assert found is not None
        return found


async def test_the_accounts_of_a_master_are_signed_for_by_its_agent() -> None:
    async with open_hyperliquid() as venue:
        ties = venue.exchange.register.ties
        sub = ties.open_sub_account(MASTER, "sub").address
        vault = ties.open_vault(MASTER, "vault").address
        assert (await checked(venue, MASTER)).relation == "agent"
        for ward in (sub, vault):
            assert (await checked(venue, ward)).relation == f"agent of the master {MASTER}"
            async with asking(venue, ward) as adapter:
                await adapter.check_credentials()
                assert adapter.order_entry is not None
                assert adapter.order_entry.vault_address == ward


async def test_anothers_sub_account_and_vault_are_told_with_their_master() -> None:
    async with open_hyperliquid() as venue:
        ties = venue.exchange.register.ties
        other = AgentKey(bytes(31) + b"\x01").address
        for ward in (ties.open_sub_account(other, "sub"), ties.open_vault(other, "vault")):
            with pytest.raises(CredentialError, match=rf"signs for {MASTER}.* of {other}"):
                await checked(venue, ward.address)


async def test_the_end_of_a_named_agent_is_found() -> None:
    async with open_hyperliquid() as venue:
        key = AgentKey(bytes(31) + b"\x09")
        now_ms = venue.clock.now_ns() // 1_000_000
        venue.exchange.register.ties.approve_until(
            key.address, MASTER, "trading", now_ms + 30 * DAY_MS, now_ms
        )
        found = await checked(venue, MASTER, key)
        assert found.valid_until_ns == (now_ms + 30 * DAY_MS) * 1_000_000


async def test_an_agents_own_address_is_no_account() -> None:
    async with open_hyperliquid() as venue:
        agent = AgentKey(venue.secret).address
        with pytest.raises(CredentialError, match=rf"is an agent.*trades for, {MASTER}"):
            await checked(venue, agent)
