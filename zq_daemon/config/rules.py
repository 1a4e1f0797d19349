"""What the configuration's values must mean beyond their types.

Owns the rules of single keys (`RULES`) and those between keys (`cross_problems`, which reads the
raw tables so that it can speak even when other keys are wrong). Pure; `config.load` applies them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
from attrs import evolve

from zq_daemon.config.schema import (
    DaemonConfig,
    ExchangeConfig,
    HyperliquidConfig,
    LimitsConfig,
    LogConfig,
    RiskConfig,
    StalenessConfig,
    StrategyConfig,
    VenuesConfig,
    WsEndpointConfig,
)
from zq_daemon.config.source import Problem
from zq_daemon.config.streams import STREAMS, StreamName, split_stream
from zq_daemon.config.structure import Mismatch, Rule, Rules, each_entry, each_item
from zq_daemon.model.bar import BarSpec
from zq_daemon.model.ids import RESERVED_OWNERS, parse_instrument_id, venue_of

VENUES = tuple(field.name for field in attrs.fields(VenuesConfig))

_VENUE = attrs.fields(WsEndpointConfig).venue.default
_WEEK_MS = 7 * 24 * 3600 * 1000
_MANY = 100_000_000
_MAX_BYTES = 1 << 30
_PATH_BYTES = 4096
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_CREDENTIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_HOST = re.compile(r"[0-9A-Za-z.:_-]{1,255}")
_HOST_BYTES = 253
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_KINDS = ("book_ms", "quote_ms", "trade_ms", "mark_ms", "candle_ms")
_STREAM = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}(?::[^\s:][^\s]{0,63})?")
_USE = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*")


def cross_problems(document: Mapping[str, Any]) -> Iterator[Problem]:
    """What is wrong between keys of a parsed file, whatever else is wrong in it."""
    yield from _repeated_names(document, "ws_endpoints")
    yield from _repeated_names(document, "strategies")
    yield from _unknown_streams(document)
    base, most = (
        document.get(name, getattr(DaemonConfig(), name))
        for name in ("reconnect_base_ms", "reconnect_max_ms")
    )
    if type(base) is int and type(most) is int and most < base:
        path = ("reconnect_max_ms" if "reconnect_max_ms" in document else "reconnect_base_ms",)
        yield Problem(path, f"reconnect_max_ms ({most}) is less than reconnect_base_ms ({base})")
    yield from _two_markets(document.get("exchange"))


def _two_markets(exchange: Any) -> Iterator[Problem]:
    """More than one thing that the embedded exchange's market shall be."""
    if not isinstance(exchange, Mapping):
        return
    chosen = {
        "seed": type(exchange.get("seed")) is int,
        "replay": bool(exchange.get("replay")),
        "follow": bool(exchange.get("follow")),
    }
    said = {"seed": "seeded", "replay": "replayed", "follow": "followed"}
    names = [name for name, is_chosen in chosen.items() if is_chosen]
    if len(names) > 1:
        what = " or ".join(said[name] for name in names)
        yield Problem(("exchange", names[0]), f"a market is {what}, not both")


def _unknown_streams(document: Mapping[str, Any]) -> Iterator[Problem]:
    """Streams that are written well and that the endpoint's venue does not have, or has once."""
    written: dict[tuple[str, StreamName], str] = {}
    for number, endpoint in _tables(document, "ws_endpoints"):
        venue, streams = endpoint.get("venue", _VENUE), endpoint.get("streams")
        if not (isinstance(venue, str) and venue in STREAMS and isinstance(streams, list)):
            continue
        limits = endpoint.get("stale_ms")
        for stream in limits if isinstance(limits, Mapping) else ():
            if stream not in streams:
                yield Problem(
                    ("ws_endpoints", number, "stale_ms", stream),
                    "not one of the endpoint's streams",
                )
        for index, stream in enumerate(streams):
            try:
                if isinstance(stream, str) and _STREAM.fullmatch(stream):
                    name = evolve(split_stream(venue, stream), options=())
                    _expect_same(written.setdefault((venue, name), stream), stream)
            except ValueError as error:
                yield Problem(("ws_endpoints", number, "streams", index), str(error))


def _expect_same(known: str, stream: str) -> None:
    """Of an instrument there is one book: another's messages would take turns with it."""
    if known != stream:
        raise ValueError(f"stream {stream!r}: differs by options from {known!r}; leave one of them")


def _repeated_names(document: Mapping[str, Any], table: str) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for index, item in _tables(document, table):
        name = item.get("name")
        if isinstance(name, str) and first.setdefault(name, index) != index:
            taken = f"{table}[{first[name]}]"
            yield Problem((table, index, "name"), f"the name is already {taken}'s; give another")


def _tables(document: Mapping[str, Any], name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The tables of the array *name*, each with its number."""
    items = document.get(name)
    for number, item in enumerate(items if isinstance(items, list | tuple) else ()):
        if isinstance(item, Mapping):
            yield number, item


def _within(low: int, high: int) -> Rule:
    def rule(value: Any) -> None:
        if not low <= value <= high:
            raise Mismatch(f"{low} to {high}", value)

    return rule


def _positive(value: Decimal) -> None:
    if value <= 0:
        raise Mismatch("more than 0", value)


def _at_least_0(value: Decimal) -> None:
    if value < 0:
        raise Mismatch("0 or more", value)


def _matches(pattern: re.Pattern[str], expected: str) -> Rule:
    def rule(value: str) -> None:
        if not pattern.fullmatch(value):
            raise Mismatch(expected, value)

    return rule


def _url(*schemes: str) -> Rule:
    expected = " or ".join(f"{scheme}://" for scheme in schemes)

    def rule(value: str) -> None:
        try:
            parts = urlsplit(value)
            sound = parts.port != 0 and value.isprintable() and " " not in value
        except ValueError as error:
            raise ValueError(f"not a URL: {error}") from None
        if not sound or parts.scheme not in schemes or not parts.hostname:
            raise Mismatch(f"a URL that begins with {expected} and names a host", value)
        if parts.username is not None or parts.fragment:
            raise ValueError("a URL here takes neither user, password nor fragment")
        _host_labels(parts.hostname)

    return rule


def _host(value: str) -> None:
    if not _HOST.fullmatch(value):
        raise Mismatch("a host name or address", value)
    _host_labels(value)


def _host_labels(host: str) -> None:
    """Refuse what no resolver takes: a label, between dots, has 1 to 63 bytes (RFC 1035, 2.3.4)."""
    try:
        sent = host.encode("idna")
    except UnicodeError:
        raise ValueError(
            f"host {host!r}: each part between dots needs 1 to 63 characters fit for a name"
        ) from None
    if len(sent.removesuffix(b".")) > _HOST_BYTES:
        raise ValueError(f"host {host!r}: longer than {_HOST_BYTES} characters")


def _strategy_name(value: str) -> None:
    _name(value)
    if value in RESERVED_OWNERS:
        reserved = ", ".join(sorted(RESERVED_OWNERS))
        raise ValueError(f"{value!r} is taken: {reserved} are parts of the daemon")


def _one_of(choices: Sequence[str]) -> Rule:
    def rule(value: str) -> None:
        if value not in choices:
            raise Mismatch(f"one of {', '.join(map(repr, choices))}", value)

    return rule


def _some(item: Rule) -> Rule:
    """At least one item, each held to *item*, none twice."""
    optional = _unique(item)

    def rule(values: Sequence[str]) -> None:
        if not values:
            raise ValueError("needs at least one item")
        optional(values)

    return rule


def _unique(item: Rule) -> Rule:
    items = each_item(item)

    def rule(values: Sequence[str]) -> None:
        items(values)
        seen: set[str] = set()
        for value in values:
            if value in seen:
                raise Mismatch("each item once", value)
            seen.add(value)

    return rule


def _instrument(value: str) -> None:
    _one_of(VENUES)(venue_of(parse_instrument_id(value)))


def _bar(value: str) -> None:
    BarSpec.parse(value)


def _path(value: str) -> None:
    if not value or "\0" in value or len(value.encode()) > _PATH_BYTES:
        raise Mismatch("a path", value)


def _all(rule: Callable[[Any], None], *names: str) -> Mapping[str, Rule]:
    return dict.fromkeys(names, rule)


_duration = _within(1, _WEEK_MS)
_stream = _matches(_STREAM, "a stream, e.g. 'trades:BTC' or 'orderUpdates'")
_name = _matches(_NAME, "a name of letters, digits, '_' and '-', at most 64")
_amounts = each_entry(_instrument, _positive)

RULES: Rules = {
    DaemonConfig: {
        **_all(_path, "state_dir", "control_socket"),
        **_all(
            _duration,
            *("tick_interval_ms", "heartbeat_interval_ms", "heartbeat_timeout_ms"),
            *("reconnect_base_ms", "reconnect_max_ms", "reconnect_healthy_ms"),
            *("connect_timeout_ms", "start_timeout_ms", "shutdown_grace_ms"),
            *("reconcile_interval_ms", "reconcile_fills_interval_ms"),
        ),
        "housekeeping_interval_ms": _within(10, 60_000),  # it costs all the time
        "not_found_span_ms": _within(0, _WEEK_MS),
        "position_tolerance": _within(0, _MANY),
    },
    WsEndpointConfig: {
        "url": _url("ws", "wss"),
        "streams": _some(_stream),
        "max_streams": _within(1, 1_000),
        "stale_ms": each_entry(_stream, _within(0, _WEEK_MS)),
        "venue": _one_of(VENUES),
        "name": _name,
    },
    HyperliquidConfig: {
        "api_url": _url("http", "https"),
        "account": _matches(_ADDRESS, "an address: 0x and 40 hexadecimal digits"),
        "key_credential": _matches(_CREDENTIAL, "the name of a systemd credential (no slashes)"),
        "key_file": _path,
        "market_slippage_bps": _within(1, 9_999),
        "agent_warning_days": _within(0, 365),
        "weight_per_minute": _within(0, 1_000_000),
        "messages_per_minute": _within(0, 1_000_000),
        "leverage": each_entry(_instrument, _within(1, 1_000)),
        "isolated": _unique(_instrument),
        "dead_mans_switch_ms": _within(15_000, 86_400_000),
        "order_validity_ms": _within(500, _WEEK_MS),  # less, and orders expire on their way
        **_all(_duration, "post_timeout_ms", "http_timeout_ms"),
    },
    StrategyConfig: {
        "name": _strategy_name,
        "use": _matches(
            _USE, "module:Class, e.g. 'zq_daemon.strategy.ma_cross:MovingAverageCross'"
        ),
        "instruments": _some(_instrument),
        "path": _path,
        "bars": _unique(_bar),
    },
    RiskConfig: {
        **_all(_amounts, "max_order_quantity", "max_position_quantity"),
        **_all(
            _positive,
            *("max_order_notional", "max_position_notional", "max_gross_exposure"),
            *("max_leverage", "max_daily_loss"),
        ),
        **_all(_within(1, _MANY), "max_open_orders", "max_orders_per_second"),
        "price_collar_bps": _within(1, 9_999),
    },
    StalenessConfig: _all(_within(0, _WEEK_MS), *_KINDS),
    LimitsConfig: {
        **_all(
            _within(1, _MANY),
            *("feed_queue", "report_queue", "submit_queue", "bus_queue", "closed_orders"),
            *("bad_messages", "max_bad_messages_per_minute"),
        ),
        "bad_message_bytes": _within(16, _MAX_BYTES),
        "max_message_bytes": _within(1_024, _MAX_BYTES),
        "feed_blocked_ms": _duration,
        "control_clients": _within(1, 1_024),
        # A record may have 1 MiB and has to fit; more than the latter the log cannot read.
        "journal_segment_bytes": _within(1 << 21, 1 << 28),
        "journal_pending_bytes": _within(1 << 16, 1 << 28),
    },
    ExchangeConfig: {
        "host": _host,
        "port": _within(1, 65_535),
        "seed": _within(0, (1 << 63) - 1),
        "replay": _path,
        "speed": _at_least_0,
        "follow": _url("http", "https"),
        "order_latency_ms": _within(0, 60_000),
        "account_balance": _positive,
        "funding_interval_ms": _within(1_000, _WEEK_MS),
    },
    LogConfig: {"summary_interval_ms": _within(0, _WEEK_MS)},
}
"""The rule of every key that has one; an unset (None) value is not asked."""


def missing_paths(config: DaemonConfig) -> Iterator[Problem]:
    """What the (resolved) *config* names on the disk and is not there."""
    for index, strategy in enumerate(config.strategies):
        if strategy.path is not None and not Path(strategy.path).is_dir():
            yield Problem(("strategies", index, "path"), f"no such folder: {strategy.path}")
    replay = config.exchange.replay
    if replay is not None and not Path(replay).is_file():
        yield Problem(("exchange", "replay"), f"no such file: {replay}")
