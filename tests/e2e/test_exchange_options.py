"""The options of an exchange in a process of its own: accounts, balances, rate limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import trio

from tests.harness.process import free_port, running_command
from tests.service.exchange_rig import connected_over_tcp, http
from tests.unit.exchange_rig import Rig
from zq_daemon.ports.clock import SystemClock


async def answered(folder: Path, *options: str) -> tuple[Any, Any]:
    """What an exchange with *options* says to a first action, and of the account behind it."""
    rig, port = Rig(), free_port()
    nonce = SystemClock().now_ns() // 1_000_000
    arguments = ["exchange", "--port", str(port), "--seed", "1", "--network", "mainnet", *options]
    async with running_command(arguments, folder) as exchange:
        await exchange.wait_event("exchange open")
        async with connected_over_tcp(port) as client:
            action = rig.envelope(rig.alice, {"type": "noop"}, nonce=nonce)
            answer = await client.post(1, "action", action)
            query = {"type": "clearinghouseState", "user": rig.alice.address}
            state = await client.post(2, "info", query)
        assert await exchange.stop() == 0
    value = state["payload"]["data"]["marginSummary"]["accountValue"]
    return answer["payload"], value


async def test_every_address_has_an_account_with_a_balance(tmp_path: Path) -> None:
    answer, value = await answered(tmp_path)
    assert (answer["status"], value) == ("ok", "100000.0")
    answer, value = await answered(tmp_path, "--balance", "1234.5")
    assert (answer["status"], value) == ("ok", "1234.5")


async def test_with_strict_accounts_no_address_has_one(tmp_path: Path) -> None:
    answer, value = await answered(tmp_path, "--strict-accounts")
    address = Rig().alice.address
    assert answer["response"] == f"User or API Wallet {address} does not exist."
    assert value == "0.0"


async def test_what_is_too_much_is_refused_only_when_asked_for(tmp_path: Path) -> None:
    query = b'{"type":"userRole","user":"%b"}' % Rig().alice.address.encode()
    for options, refusals in (([], set()), (["--rate-limits"], {b"429"})):
        port = free_port()
        arguments = [
            "exchange",
            "--port",
            str(port),
            "--seed",
            "1",
            "--network",
            "mainnet",
            *options,
        ]
        async with running_command(arguments, tmp_path) as exchange:
            await exchange.wait_event("exchange open")
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                told = [(await http(stream, "/info", query)).split(b" ")[1] for _ in range(60)]
            assert await exchange.stop() == 0
        assert told[:20] == [b"200"] * 20
        assert set(told[20:]) - {b"200"} == refusals, "a little flows back meanwhile"
