"""The configuration as frozen values: every key of the TOML file, its default and its meaning.

Pure data: structuring, located errors and files are `config.load`'s. A duration's unit is the last
word of its name. `config.toml.example` documents each key for the operator.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal

from attrs import Factory, frozen

LogLevel = Literal["debug", "info", "warning", "error"]
OnFault = Literal["cancel", "hold", "flatten"]


@frozen(kw_only=True)
class WsEndpointConfig:
    """One WebSocket connection: where, whose protocol, and which streams it subscribes to.

    Streams are `<stream>` or `<stream>:<symbol>` in the venue's own names: `l2Book:BTC`,
    `trades:BTC`, `bbo:BTC`, `activeAssetCtx:BTC`, `candle:BTC:1m`, `allMids`, and, private,
    `orderUpdates`, `userFills`, `userEvents`, `userFundings`. The endpoint with private streams
    also carries order entry. More than *max_streams* are spread over several connections.

    *stale_ms* maps one of the streams to its own limit; the others have that of `[staleness]`.
    """

    url: str
    streams: tuple[str, ...]
    max_streams: int = 500
    stale_ms: Mapping[str, int] = Factory(dict)
    venue: str = "hyperliquid"
    name: str | None = None


@frozen(kw_only=True)
class HyperliquidConfig:
    """The Hyperliquid account and how its orders are signed.

    *account* is the master (or sub-account) address that owns the orders; the agent key comes from
    the systemd credential *key_credential* or the 0600 file *key_file*, never from here. Orders go
    by *order_entry*; by HTTP also while there is no private connection. *weight_per_minute* and
    *messages_per_minute* are the venue's limits for one machine; 0: there are none.

    *leverage* is set at the start, by instrument id, with margin of its own for those in
    *isolated*. With *dead_mans_switch_ms* the venue cancels all orders of the account when the
    daemon has not spoken for so long.
    """

    network: Literal["mainnet", "testnet"] = "mainnet"
    api_url: str | None = None
    account: str | None = None
    key_credential: str = "hyperliquid-agent-key"
    key_file: str | None = None
    market_slippage_bps: int = 500
    order_entry: Literal["ws", "http"] = "ws"
    order_validity_ms: int = 15_000
    post_timeout_ms: int = 10_000
    http_timeout_ms: int = 10_000
    agent_warning_days: int = 14
    weight_per_minute: int = 1_200
    messages_per_minute: int = 2_000
    leverage: Mapping[str, int] = Factory(dict)
    isolated: tuple[str, ...] = ()
    dead_mans_switch_ms: int | None = None


@frozen(kw_only=True)
class VenuesConfig:
    """One table for each venue the daemon can speak to."""

    hyperliquid: HyperliquidConfig = HyperliquidConfig()


@frozen(kw_only=True)
class StrategyConfig:
    """One strategy: a `module:Class`, the instruments it sees, its bars and its own parameters.

    *path* is a folder put on the module search path for this strategy (relative: to the file).
    *on_fault* says what becomes of its live orders when it fails, and of its position (flatten).
    """

    name: str
    use: str
    instruments: tuple[str, ...]
    path: str | None = None
    bars: tuple[str, ...] = ()
    enabled: bool = True
    on_fault: OnFault = "cancel"
    params: Mapping[str, Any] = Factory(dict)


@frozen(kw_only=True)
class RiskConfig:
    """Limits checked before an order leaves; None switches a limit off. Amounts in quote currency.

    *max_position_quantity* maps an instrument id to base units; *price_collar_bps* is measured from
    the mark; a *max_daily_loss* that is reached halts trading until an operator activates it.
    """

    max_order_quantity: Mapping[str, Decimal] = Factory(dict)
    max_order_notional: Decimal | None = Decimal(10_000)
    max_position_quantity: Mapping[str, Decimal] = Factory(dict)
    max_position_notional: Decimal | None = Decimal(50_000)
    max_gross_exposure: Decimal | None = Decimal(100_000)
    max_leverage: Decimal | None = Decimal(3)
    max_daily_loss: Decimal | None = Decimal(1_000)
    max_open_orders: int | None = 100
    max_orders_per_second: int | None = 10
    price_collar_bps: int | None = 500
    trading_state: Literal["active", "reducing", "halted"] = "active"


@frozen(kw_only=True)
class StalenessConfig:
    """After how long without a message a stream counts as stale (0: never)."""

    book_ms: int = 10_000
    quote_ms: int = 0
    trade_ms: int = 0
    mark_ms: int = 30_000
    candle_ms: int = 0


@frozen(kw_only=True)
class LimitsConfig:
    """Bounds of every queue, cache and message."""

    feed_queue: int = 4_096
    report_queue: int = 1_024
    submit_queue: int = 256
    bus_queue: int = 65_536
    closed_orders: int = 10_000
    bad_messages: int = 100
    bad_message_bytes: int = 4_096
    max_message_bytes: int = 4_194_304
    max_bad_messages_per_minute: int = 60
    feed_blocked_ms: int = 5_000
    control_clients: int = 16
    journal_segment_bytes: int = 16_777_216
    journal_pending_bytes: int = 4_194_304


@frozen(kw_only=True)
class ExchangeConfig:
    """The embedded exchange: a market to try strategies on with play money, over real sockets.

    The market is made up from *seed*, a *replay*, or the live one of the venue whose API has the
    URL *follow*. In a market that is not ours *queue* is where a resting order stands among what is
    shown at its price; to one that is followed an order takes *order_latency_ms*.
    """

    enabled: bool = False
    host: str = "127.0.0.1"
    port: int = 18_473
    seed: int | None = None
    replay: str | None = None
    speed: Decimal = Decimal(1)
    follow: str | None = None
    queue: Literal["front", "back", "proportional"] = "back"
    order_latency_ms: int = 100
    account_balance: Decimal = Decimal(100_000)
    funding_interval_ms: int = 3_600_000
    strict_accounts: bool = False
    rate_limits: bool = False


@frozen(kw_only=True)
class LogConfig:
    """Where and how the daemon reports; `auto` is text on a terminal and JSON elsewhere."""

    level: LogLevel = "info"
    format: Literal["auto", "text", "json"] = "auto"
    summary_interval_ms: int = 5_000


@frozen(kw_only=True)
class DaemonConfig:
    """The whole file.

    *on_start* and *on_stop* say what becomes of our live orders then, *external_orders* of orders
    at the venue that the journal does not know. *not_found_span_ms*: over how long the venue must
    deny an order again and again before it counts as gone.

    *position_tolerance*, in quantity steps: a position that differs from the venue's by more, for
    good, has *on_position_difference* done.
    """

    state_dir: str = "var"
    control_socket: str | None = None
    tick_interval_ms: int | None = None
    housekeeping_interval_ms: int = 100
    heartbeat_interval_ms: int = 30_000
    heartbeat_timeout_ms: int = 10_000
    auto_reconnect: bool = True
    reconnect_base_ms: int = 1_000
    reconnect_max_ms: int = 60_000
    reconnect_healthy_ms: int = 60_000
    connect_timeout_ms: int = 10_000
    reconcile_interval_ms: int = 60_000
    reconcile_fills_interval_ms: int = 300_000
    position_tolerance: Decimal = Decimal("0.5")
    on_position_difference: Literal["halt", "report"] = "halt"
    start_timeout_ms: int = 60_000
    shutdown_grace_ms: int = 10_000
    enable_recovery: bool = True
    on_start: Literal["adopt", "cancel"] = "adopt"
    on_stop: Literal["cancel", "leave"] = "cancel"
    external_orders: Literal["adopt", "cancel", "report"] = "report"
    not_found_span_ms: int = 10_000
    ws_endpoints: tuple[WsEndpointConfig, ...] = ()
    venues: VenuesConfig = VenuesConfig()
    strategies: tuple[StrategyConfig, ...] = ()
    risk: RiskConfig = RiskConfig()
    staleness: StalenessConfig = StalenessConfig()
    limits: LimitsConfig = LimitsConfig()
    exchange: ExchangeConfig = ExchangeConfig()
    log: LogConfig = LogConfig()
