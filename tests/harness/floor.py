"""A trading floor on this machine: an exchange process, a wire to it, and one state folder.

The exchange and the folder outlive the daemons, which connect through the wire. Two ladders trade,
one driven by events and one by the clock, each in a perpetual of its own, and where the terms say
so a third one in a spot pair. What the exchange has is asked directly, not through the wire.
"""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio
from attrs import frozen

from tests.harness.past import Past
from tests.harness.process import RunningDaemon, free_port, running_command
from tests.harness.wire import Wire, open_wire
from tests.service.exchange_rig import http
from zq_daemon.control.client import request
from zq_daemon.venue.hyperliquid.sign import AgentKey

STRATEGIES = Path(__file__).with_name("strategies")
COINS = {"events": "BTC", "clock": "ETH"}
"""The strategies, and what each of them trades alone."""
SPOT = "@107"
"""What the third one trades, where there is one."""
_KEY = f"{7:064x}"
_PATIENCE_S = 30


@frozen(kw_only=True)
class Terms:
    """How the next daemon is configured; *extra* are lines of the top level and tables, *venue* of
    the venue's table.

    The first of them are the ladders', see `Ladder.Params`; *clock_orders* those of the one that
    the clock drives, which is ten times faster, where they are not as many. *spot*: there is a
    third ladder. *private* are the streams of the account, and *risk* lines of that table. Times
    are milliseconds.
    """

    orders: int = 4
    clock_orders: int | None = None
    offset_bps: str = "0.6"
    churn: int = 0
    take: int = 0
    still: bool = False
    spot: bool = False
    private: tuple[str, ...] = ("orderUpdates", "userFills")
    on_start: str = "adopt"
    on_stop: str = "leave"
    shutdown_grace_ms: int = 5_000
    order_validity_ms: int = 1_000
    extra: str = ""
    venue: str = ""
    risk: str = ""


class Floor:
    """What there is before and after any daemon."""

    def __init__(self, folder: Path, exchange: RunningDaemon, wire: Wire) -> None:
        self.folder = folder
        self.exchange = exchange
        self.wire = wire
        self.config = folder / "config.toml"
        self.state = folder / "var"
        self.socket = self.state / "control.sock"
        self.past = Past()
        self.inside: Sequence[str] = ()
        """What daemons are started by, see `running_command`."""
        self.account = AgentKey.from_text(_KEY).address
        key_file = folder / "agent.key"
        key_file.touch(mode=0o600)
        key_file.write_text(_KEY)

    def configure(self, terms: Terms) -> None:
        """Write the configuration that the next start, or a reload, reads."""
        self.config.write_text(_config(self.wire.port, self.account, terms))

    async def reload(self, terms: Terms) -> None:
        """Let the running daemon take over *terms*."""
        self.configure(terms)
        answer = await request(self.socket, "reload")
        assert answer.get("needs_restart") == [], answer

    async def misbehave(self, faults: str = "") -> None:
        """Have the exchange misbehave as the TOML *faults* says, from now on."""
        (self.folder / "faults.toml").write_text(faults)
        since = len(self.exchange.log)
        self.exchange.send_signal(signal.SIGHUP)
        await self.exchange.wait_event("faults in force", since=since)

    async def ask(self, *kinds: str, **query: Any) -> list[Any]:
        """The exchange's answers about our account, one a kind, one after another."""
        async with await trio.open_tcp_stream("127.0.0.1", self.wire.upstream) as stream:
            found = []
            for kind in kinds:
                asked = {"type": kind, "user": self.account, **query}
                answer = await http(stream, "/info", json.dumps(asked).encode())
                found.append(json.loads(answer.partition(b"\r\n\r\n")[2]))
            return found

    async def resting(self) -> dict[str, int]:
        """How many of our orders rest at the exchange, by coin."""
        (orders,) = await self.ask("openOrders")
        coins = [order["coin"] for order in orders]
        return {coin: coins.count(coin) for coin in COINS.values()}

    async def wait_resting(self, count: int, clock: int | None = None) -> None:
        """Return when each strategy has so many orders at the exchange; AssertionError.

        *clock* is the number of the one that the clock drives, if it is another.
        """
        wanted = {"BTC": count, "ETH": count if clock is None else clock}
        with trio.move_on_after(_PATIENCE_S):
            while any(count < wanted[coin] for coin, count in (await self.resting()).items()):
                await trio.sleep(0.05)
            return
        raise AssertionError(f"never {wanted} orders at rest: {await self.resting()}")

    @asynccontextmanager
    async def daemon(self) -> AsyncIterator[RunningDaemon]:
        """`zq-daemon run`."""
        command = ["run", "--config", str(self.config)]
        async with running_command(command, self.folder, inside=self.inside) as daemon:
            yield daemon

    @asynccontextmanager
    async def mortal(self, *arguments: str) -> AsyncIterator[RunningDaemon]:
        """The same daemon, out to die; see `tests.harness.mortal_daemon`."""
        command = ["--config", str(self.config), *arguments]
        module, inside = "tests.harness.mortal_daemon", self.inside
        async with running_command(command, self.folder, module=module, inside=inside) as daemon:
            yield daemon


@asynccontextmanager
async def open_floor(folder: Path, *options: str, seed: int) -> AsyncIterator[Floor]:
    """An exchange with the market of *seed* and further *options*, and a wire to it."""
    port = free_port()
    faults = folder / "faults.toml"
    faults.touch()
    arguments = ["exchange", "--port", str(port), "--seed", str(seed), "--faults", str(faults)]
    arguments += options
    async with running_command(arguments, folder) as exchange, open_wire(free_port(), port) as wire:
        await exchange.wait_event("exchange open")
        yield Floor(folder, exchange, wire)


def _config(port: int, account: str, terms: Terms) -> str:
    params = (
        f'offset_bps = "{terms.offset_bps}", churn = {terms.churn}, take = {terms.take}, '
        f"still = {str(terms.still).lower()}"
    )
    books = [f"l2Book:{coin}" for coin in (*COINS.values(), *((SPOT,) if terms.spot else ()))]
    clock_orders = terms.orders if terms.clock_orders is None else terms.clock_orders
    return f"""
state_dir = "var"
tick_interval_ms = 50
reconnect_base_ms = 50
reconnect_max_ms = 200
shutdown_grace_ms = {terms.shutdown_grace_ms}
not_found_span_ms = 500
on_start = "{terms.on_start}"
on_stop = "{terms.on_stop}"
{terms.extra}

[log]
format = "json"
summary_interval_ms = 0

[venues.hyperliquid]
api_url = "http://127.0.0.1:{port}"
account = "{account}"
key_file = "agent.key"
order_validity_ms = {terms.order_validity_ms}
{terms.venue}

[risk]
max_orders_per_second = "off"
max_open_orders = "off"
price_collar_bps = "off"
{terms.risk}

[[ws_endpoints]]
name = "market"
url = "ws://127.0.0.1:{port}/ws"
streams = {json.dumps(books)}

[[ws_endpoints]]
name = "account"
url = "ws://127.0.0.1:{port}/ws"
streams = {json.dumps(terms.private)}

[[strategies]]
name = "events"
use = "ladder:EventLadder"
path = "{STRATEGIES}"
instruments = ["hyperliquid.BTC"]
params = {{ orders = {terms.orders}, quantity = "0.005", {params} }}

[[strategies]]
name = "clock"
use = "ladder:ClockLadder"
path = "{STRATEGIES}"
instruments = ["hyperliquid.ETH"]
params = {{ orders = {clock_orders}, quantity = "0.005", {params} }}
{_spot_ladder(terms, params) if terms.spot else ""}
"""


def _spot_ladder(terms: Terms, params: str) -> str:
    return f"""
[[strategies]]
name = "spot"
use = "ladder:ClockLadder"
path = "{STRATEGIES}"
instruments = ["hyperliquid.{SPOT}"]
params = {{ orders = {terms.orders}, quantity = "1", {params} }}
"""
