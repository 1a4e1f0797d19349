"""Who may sign for which account, by what the venue says of both addresses."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from zq_daemon.errors import CredentialError, LinkRefused
from zq_daemon.venue.hyperliquid import wire
from zq_daemon.venue.hyperliquid.pairing import Questions, check_pairing
from zq_daemon.venue.interface import Credentials

pytestmark = pytest.mark.virtual

MASTER, OTHER, AGENT, WARD = ("0x" + digit * 40 for digit in "1234")
USER = wire.UserRole(role="user")
MISSING = wire.UserRole(role="missing")


def agent_of(master: str) -> wire.UserRole:
    return wire.UserRole(role="agent", data=wire.RoleData(user=master.upper().replace("X", "x")))


class Venue:
    """What it says of each address; *leader* and *agents* None: it refuses to say."""

    def __init__(
        self,
        roles: dict[str, wire.UserRole],
        agents: Sequence[wire.ExtraAgent] | None = (),
        leader: str | None = None,
    ) -> None:
        self._roles = roles
        self._agents = agents
        self._leader = leader
        self.asked: list[str] = []

    async def check(self, account: str = MASTER, signer: str | None = AGENT) -> Credentials:
        ask = Questions(role=self._role, agents=self._all, leader=self._who)
        return await check_pairing(ask, account=account, signer=signer)

    async def _role(self, address: str) -> wire.UserRole:
        self.asked.append(address)
        return self._roles.get(address, MISSING)

    async def _all(self, address: str) -> Sequence[wire.ExtraAgent]:
        assert address == MASTER
        if self._agents is None:
            raise LinkRefused("422")
        return self._agents

    async def _who(self, address: str) -> str:
        assert address == WARD
        if self._leader is None:
            raise LinkRefused("422")
        return self._leader


async def test_an_approved_agent_signs_until_its_approval_ends() -> None:
    ends = [
        wire.ExtraAgent(address=OTHER, valid_until=1),
        wire.ExtraAgent(address=AGENT.upper().replace("X", "x"), valid_until=1_700_000_000_123),
    ]
    venue = Venue({MASTER: USER, AGENT: agent_of(MASTER)}, ends)
    assert await venue.check() == Credentials(
        account=MASTER,
        signer=AGENT,
        relation="agent",
        valid_until_ns=1_700_000_000_123_000_000,
    )


@pytest.mark.parametrize("agents", [(), None])
async def test_an_unnamed_agent_has_no_end_that_is_told(
    agents: Sequence[wire.ExtraAgent] | None,
) -> None:
    venue = Venue({MASTER: USER, AGENT: agent_of(MASTER)}, agents)
    assert (await venue.check()).valid_until_ns is None


async def test_a_master_signs_for_itself() -> None:
    venue = Venue({MASTER: USER})
    found = await venue.check(signer=MASTER)
    assert (found.relation, found.valid_until_ns) == ("the account's own key", None)
    assert venue.asked == [MASTER]


async def test_without_a_key_only_the_account_is_asked_about() -> None:
    assert (await Venue({MASTER: USER}).check(signer=None)).relation == "watched only"
    with pytest.raises(CredentialError, match="typing mistake"):
        await Venue({}).check(signer=None)


@pytest.mark.parametrize("signer", [MASTER, AGENT])
@pytest.mark.parametrize("kind", ["subAccount", "vault"])
async def test_sub_accounts_and_vaults_are_signed_for_by_their_master(
    kind: str, signer: str
) -> None:
    role = wire.UserRole(role=kind, data=wire.RoleData(master=MASTER))
    venue = Venue({WARD: role, AGENT: agent_of(MASTER)}, leader=MASTER)
    found = await venue.check(WARD, signer)
    assert found.relation.endswith(f"of the master {MASTER}")


@pytest.mark.parametrize("kind", ["subAccount", "vault"])
async def test_another_masters_agent_does_not_sign_for_them(kind: str) -> None:
    role = wire.UserRole(role=kind, data=wire.RoleData(master=MASTER))
    venue = Venue({WARD: role, AGENT: agent_of(OTHER)}, leader=MASTER)
    with pytest.raises(CredentialError, match=f"{WARD} .a {kind} of {MASTER}."):
        await venue.check(WARD)


async def test_where_the_master_is_not_told_the_key_is_taken_as_it_is() -> None:
    role = wire.UserRole(role="vault")
    assert (await Venue({WARD: role, AGENT: agent_of(MASTER)}).check(WARD)).relation.startswith(
        "agent"
    )
    assert (await Venue({WARD: role}).check(WARD)).relation == "not told by the venue"


async def test_an_agents_address_as_the_account_is_told_with_its_owner() -> None:
    venue = Venue({AGENT: agent_of(OTHER)})
    with pytest.raises(CredentialError, match=rf"is an agent.*account it trades for, {OTHER}"):
        await venue.check(AGENT)


async def test_an_account_the_venue_does_not_know_is_told() -> None:
    with pytest.raises(CredentialError, match=rf"{MASTER} is not known.*network"):
        await Venue({AGENT: agent_of(MASTER)}).check()


@pytest.mark.parametrize("role", [USER, MISSING, wire.UserRole(role="agent")])
async def test_a_key_that_is_no_agent_is_told(role: wire.UserRole) -> None:
    venue = Venue({MASTER: USER, AGENT: role})
    with pytest.raises(CredentialError, match=rf"{AGENT} is no agent.*API\s+wallet of {MASTER}"):
        await venue.check()


async def test_an_agent_of_somebody_else_is_told_with_whom_it_signs_for() -> None:
    venue = Venue({MASTER: USER, AGENT: agent_of(OTHER)})
    with pytest.raises(CredentialError, match=rf"signs for {OTHER}, not for.*set .* to {OTHER}"):
        await venue.check()


async def test_a_role_of_the_future_counts_as_an_account_of_its_own() -> None:
    venue = Venue({MASTER: wire.UserRole(role="institution"), AGENT: agent_of(MASTER)})
    assert (await venue.check()).relation == "agent"
