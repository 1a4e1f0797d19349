"""Hyperliquid's WebSocket protocol on one connection: subscriptions out, understood messages in.

Owns which streams this connection has and what each message means. No I/O, no clock, and no
message, whatever its bytes, makes it raise: what is not understood is named in `Received.problem`
and the good parts beside it are kept. A new one is made for every connection, by the adapter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar, get_args

import msgspec
from attrs import frozen

from zq_daemon.config.streams import STREAMS, split_stream
from zq_daemon.model.ids import AccountId, InstrumentId, instrument_id
from zq_daemon.model.market import MarketEvent
from zq_daemon.model.report import Report
from zq_daemon.venue.hyperliquid import decode, wire
from zq_daemon.venue.interface import Received, Reply

_GREETING = "Websocket connection established."
_PING = '{"method":"ping"}'
_NOTHING = Received()
_PROBLEM_CHARS = 300
_MOST_COINS = 10_000
"""Of so many coins the middle prices are remembered: many times what the venue lists."""
_PENDING_POST = re.compile(r"too many pending post requests.*?id=(\d{1,18})", re.DOTALL)
_BROKEN = (ValueError, RecursionError)  # msgspec's and Unicode's errors are ValueErrors

_SAID_ALIKE = {"activeSpotAssetCtx": "activeAssetCtx"}
"""One subscription by two names: a spot pair's context comes on a channel of its own."""

_T = TypeVar("_T")
_R = TypeVar("_R")
_CHANNELS = frozenset(str(kind.__struct_config__.tag) for kind in get_args(wire.Message))
_order_update = wire.decoder(wire.OrderUpdate).decode
_fill = wire.decoder(wire.Fill).decode
_trade = wire.decoder(wire.Trade).decode
_raw_list = wire.decoder(list[msgspec.Raw]).decode
_raw_user_fills = wire.decoder(wire.RawUserFills).decode
_funding = wire.decoder(wire.Funding).decode
_liquidation = wire.decoder(wire.Liquidation).decode
_raw_user_fundings = wire.decoder(wire.RawUserFundings).decode
_raw_user_event = wire.decoder(wire.RawUserEvent).decode


@frozen
class Stream:
    """One subscription: its kind and, for market data, the coin; *interval* of candles."""

    kind: str
    coin: str | None = None
    interval: str | None = None
    options: tuple[tuple[str, int], ...] = ()

    @property
    def private(self) -> bool:
        """Whether it is about an account."""
        return self.kind in STREAMS[decode.VENUE].private

    @classmethod
    def parse(cls, text: str) -> Stream:
        """Read `l2Book:BTC`, `l2Book:BTC?nSigFigs=4`, `candle:BTC:1m` or `orderUpdates`.

        ValueError says what is wrong with it.
        """
        name = split_stream(decode.VENUE, text)
        options = dict(name.options)
        if "mantissa" in options and options.get("nSigFigs") != 5:
            raise ValueError(f"stream {text!r}: a mantissa needs nSigFigs=5")
        return cls(name.kind, name.symbol, name.interval, name.options)

    def subscription(self, address: str | None) -> dict[str, str | int]:
        """The body of its subscription; a private one names the account's *address*."""
        body: dict[str, str | int] = {"type": self.kind}
        if self.coin is not None:
            body["coin"] = self.coin
        if self.interval is not None:
            body["interval"] = self.interval
        if self.private:
            assert address is not None
            body["user"] = address
        return body | dict(self.options)

    def is_confirmed(self, told: wire.Subscription) -> bool:
        """Whether *told* is this one; the echo may add or drop options, which differ in nothing."""
        kind = _SAID_ALIKE.get(told.type, told.type)
        return (self.kind, self.coin, self.interval) == (kind, told.coin, told.interval)


class HyperliquidSession:
    """One connection's protocol; see `venue.interface.Session`."""

    def __init__(
        self,
        streams: Sequence[str],
        *,
        account_id: AccountId | None,
        address: str | None,
        listed: Collection[InstrumentId] | None = None,
    ) -> None:
        """For *streams*; ValueError names one that does not exist or needs an account.

        *listed*: the instruments that count in what is about all of them; None: every one.
        """
        self._streams = {text: Stream.parse(text) for text in streams}
        _check_alike(self._streams)
        self._listed = listed
        self._mids: dict[str, str] = {}
        self._candles: dict[tuple[str, str], wire.Candle] = {}
        for text, stream in self._streams.items():
            if stream.private and (account_id is None or address is None):
                raise ValueError(f"stream {text!r}: needs venues.hyperliquid.account")
        self._account_id = account_id
        self._address = address
        self._instruments: Mapping[str, InstrumentId] = {
            stream.coin: instrument_id(decode.VENUE, stream.coin)
            for stream in self._streams.values()
            if stream.coin is not None
        }
        self._intervals = {
            (stream.coin, stream.interval) for stream in self._streams.values() if stream.interval
        }
        self._handlers: Mapping[type, Callable[[Any, int], Received]] = {
            wire.BookMessage: self._on_book,
            wire.BboMessage: self._on_bbo,
            wire.TradesMessage: self._on_trades,
            wire.AssetContextMessage: self._on_context,
            wire.SpotContextMessage: self._on_context,
            wire.CandleMessage: self._on_candle,
            wire.AllMidsMessage: self._on_mids,
            wire.OrderUpdatesMessage: self._on_order_updates,
            wire.UserFillsMessage: self._on_user_fills,
            wire.UserFundingsMessage: self._on_user_fundings,
            wire.UserMessage: self._on_user,
            wire.PostMessage: self._on_post,
            wire.SubscriptionMessage: self._on_subscription,
            wire.ErrorMessage: self._on_error,
            wire.PongMessage: self._on_pong,
        }

    def opening(self) -> Sequence[str]:
        """One subscription for each stream."""
        return tuple(
            wire.encode(
                {"method": "subscribe", "subscription": stream.subscription(self._address)}
            ).decode()
            for stream in self._streams.values()
        )

    def ping(self) -> str:
        """The venue answers it on channel `pong`."""
        return _PING

    def receive(self, message: str | bytes, ts_recv_ns: int) -> Received:
        """What *message* means; never raises."""
        try:
            decoded = wire.decode_message(message)
        except _BROKEN as error:
            return self._undecoded(message, ts_recv_ns, error)
        try:
            return self._handlers[type(decoded)](decoded, ts_recv_ns)
        except ValueError as error:
            return _problem(f"{_channel_of(decoded)}: {error}")

    def _on_book(self, message: wire.BookMessage, ts_recv_ns: int) -> Received:
        data = message.data
        return Received(market=(decode.book(data, self._instrument(data.coin), ts_recv_ns),))

    def _on_bbo(self, message: wire.BboMessage, ts_recv_ns: int) -> Received:
        data = message.data
        return Received(market=(decode.quote(data, self._instrument(data.coin), ts_recv_ns),))

    def _on_context(
        self, message: wire.AssetContextMessage | wire.SpotContextMessage, ts_recv_ns: int
    ) -> Received:
        data = message.data
        return Received(market=(decode.mark(data.ctx, self._instrument(data.coin), ts_recv_ns),))

    def _on_candle(self, message: wire.CandleMessage, ts_recv_ns: int) -> Received:
        """The open one, and the one before it as closed once the venue has gone on to the next."""
        wired, key = message.data, (message.data.s, message.data.i)
        instrument = self._instrument(wired.s)
        if key not in self._intervals:
            raise ValueError(f"interval {wired.i[:40]!r} of {wired.s!r} is not subscribed to here")
        before = self._candles.get(key)
        if before == wired or (before is not None and wired.t < before.t):
            return _NOTHING
        now = decode.candle(wired, instrument, ts_recv_ns, is_closed=False)
        self._candles[key] = wired
        if before is None or before.t == wired.t:
            return Received(market=(now,))
        ended = decode.candle(before, instrument, ts_recv_ns, is_closed=True)
        return Received(market=(ended, now))

    def _on_mids(self, message: wire.AllMidsMessage, ts_recv_ns: int) -> Received:
        """Those that changed: there are hundreds, and most have not."""
        before = self._mids
        changed = [each for each in message.data.mids.items() if before.get(each[0]) != each[1]]

        def read(item: tuple[str, str]) -> MarketEvent | None:
            coin, text = item
            instrument = instrument_id(decode.VENUE, coin)
            if self._listed is not None and instrument not in self._listed:
                return None
            if coin not in before and len(before) >= _MOST_COINS:
                raise ValueError(f"more than {_MOST_COINS} coins")
            told = decode.mid(text, instrument, ts_recv_ns)
            before[coin] = text
            return told

        mids, problem = _each(changed, read)
        market = tuple(each for each in mids if each is not None)
        return Received(market=market, problem=_named("allMids", problem))

    def _on_trades(self, message: wire.TradesMessage, ts_recv_ns: int) -> Received:
        market, problem = _each(message.data, lambda wired: self._trade(wired, ts_recv_ns))
        return Received(market=market, problem=_named("trades", problem))

    def _on_order_updates(self, message: wire.OrderUpdatesMessage, ts_recv_ns: int) -> Received:
        return self._orders(message.data, "", ts_recv_ns)

    def _on_user_fills(self, message: wire.UserFillsMessage, ts_recv_ns: int) -> Received:
        return self._fills("userFills", message.data.fills, ts_recv_ns)

    def _on_user(self, message: wire.UserMessage, ts_recv_ns: int) -> Received:
        data = message.data
        if data.fills is not None:
            return self._fills("user", data.fills, ts_recv_ns)
        owner = self._owner()
        if data.funding is not None:
            return Received(reports=(decode.funding(data.funding, owner),))
        if data.non_user_cancel is not None:
            reports, problem = _each(
                data.non_user_cancel, lambda wired: decode.venue_cancel(wired, owner, ts_recv_ns)
            )
            return Received(reports=reports, problem=_named("user", problem))
        if bytes(data.liquidation) != b"null":
            return self._liquidation(data.liquidation, ts_recv_ns)
        return Received(notice="user: an event of an unknown kind")

    def _liquidation(self, raw: msgspec.Raw, ts_recv_ns: int) -> Received:
        """Whatever it looks like, it is told."""
        try:
            wired = _liquidation(raw)
        except _BROKEN:
            wired = wire.Liquidation()
        text = bytes(raw).decode(errors="replace")
        event = decode.liquidation(wired, text, self._owner(), ts_recv_ns)
        if event is None:
            return Received(notice="user: a liquidation of somebody else")
        return Received(reports=(event,))

    def _on_user_fundings(self, message: wire.UserFundingsMessage, _ts_recv_ns: int) -> Received:
        owner = self._owner()
        reports, problem = _each(message.data.fundings, lambda told: decode.funding(told, owner))
        return Received(reports=reports, problem=_named("userFundings", problem))

    def _on_post(self, message: wire.PostMessage, _ts_recv_ns: int) -> Received:
        return Received(replies=(Reply(post_id=message.data.id, body=message.data.response),))

    def _on_subscription(self, message: wire.SubscriptionMessage, _ts_recv_ns: int) -> Received:
        data = message.data
        if data.method != "subscribe":
            return _NOTHING
        told = data.subscription
        names = tuple(text for text, stream in self._streams.items() if stream.is_confirmed(told))
        if not names:
            return _problem(f"subscriptionResponse: {told.type}:{told.coin} was not asked for")
        return Received(subscribed=names)

    def _on_error(self, message: wire.ErrorMessage, _ts_recv_ns: int) -> Received:
        problem = f"error: {message.data}"[:_PROBLEM_CHARS]
        refused = _PENDING_POST.search(message.data)
        if refused is None:
            return Received(problem=problem)
        body = wire.PostResponse(kind="error", payload=msgspec.Raw(wire.encode(message.data)))
        return Received(replies=(Reply(post_id=int(refused[1]), body=body),), problem=problem)

    def _on_pong(self, _message: wire.PongMessage, _ts_recv_ns: int) -> Received:
        return Received(pong=True)

    def _undecoded(self, message: str | bytes, ts_recv_ns: int, error: Exception) -> Received:
        """A message that does not fit: the greeting, or one whose good elements are saved."""
        if _is_greeting(message):
            return _NOTHING
        try:
            envelope = wire.decode_envelope(message)
        except _BROKEN:
            return _problem(f"not a message: {error}")
        try:
            return self._salvaged(envelope, ts_recv_ns, error)
        except _BROKEN as worse:
            return _problem(f"{envelope.channel[:40]}: {worse}")

    def _salvaged(self, envelope: wire.Envelope, ts_recv_ns: int, error: Exception) -> Received:
        match envelope.channel:
            case "trades":
                trades, problem = _each(
                    _raw_list(envelope.data), lambda raw: self._trade(_trade(raw), ts_recv_ns)
                )
                return Received(market=trades, problem=_named("trades", problem))
            case "orderUpdates":
                updates, problem = _each(_raw_list(envelope.data), _order_update)
                return self._orders(updates, problem, ts_recv_ns)
            case "userFills":
                return self._raw_fills("userFills", _raw_user_fills(envelope.data), ts_recv_ns)
            case "userFundings":
                raw, owner = _raw_user_fundings(envelope.data), self._owner()
                reports, problem = _each(
                    raw.fundings, lambda each: decode.funding(_funding(each), owner)
                )
                return Received(reports=reports, problem=_named("userFundings", problem))
            case "user":
                return self._raw_fills("user", _raw_user_event(envelope.data), ts_recv_ns)
            case other if other in _CHANNELS:
                return _problem(f"{other}: {error}")
            case other:
                return _problem(f"unknown channel: {other[:40]!r}")

    def _fills(self, channel: str, fills: Iterable[wire.Fill], ts_recv_ns: int) -> Received:
        owner = self._owner()
        reports, problem = _each(fills, lambda wired: decode.fill(wired, owner, ts_recv_ns))
        return Received(reports=reports, problem=_named(channel, problem))

    def _raw_fills(
        self, channel: str, data: wire.RawUserFills | wire.RawUserEvent, ts_recv_ns: int
    ) -> Received:
        owner = self._owner()
        reports, problem = _each(data.fills, lambda raw: decode.fill(_fill(raw), owner, ts_recv_ns))
        return Received(reports=reports, problem=_named(channel, problem))

    def _trade(self, wired: wire.Trade, ts_recv_ns: int) -> MarketEvent:
        return decode.trade(wired, self._instrument(wired.coin), ts_recv_ns)

    def _orders(
        self, updates: Sequence[wire.OrderUpdate], problem: str, ts_recv_ns: int
    ) -> Received:
        """The reports of *updates*; *problem* is of those that could not even be decoded."""
        reports, refused = _each(updates, lambda wired: self._order(wired, ts_recv_ns))
        words = [each.status for each in updates if not decode.order_status(each.status)[1]]
        notice = f"status {words[0]!r} is unknown, read as accepted" if words else ""
        return Received(
            reports=reports,
            problem=_named("orderUpdates", problem or refused),
            notice=_named("orderUpdates", notice),
        )

    def _order(self, wired: wire.OrderUpdate, ts_recv_ns: int) -> Report:
        return decode.order_report(wired, self._owner(), ts_recv_ns)

    def _instrument(self, coin: str) -> InstrumentId:
        known = self._instruments.get(coin)
        if known is None:
            raise ValueError(f"coin {coin[:64]!r} is not subscribed to here")
        return known

    def _owner(self) -> AccountId:
        if self._account_id is None:
            raise ValueError("a private message on a connection without an account")
        return self._account_id


def _check_alike(streams: Mapping[str, Stream]) -> None:
    """Messages do not tell options: of one coin there can be one book on a connection."""
    seen: dict[tuple[str, str | None, str | None], str] = {}
    for text, stream in streams.items():
        known = seen.setdefault((stream.kind, stream.coin, stream.interval), text)
        if known != text:
            raise ValueError(f"stream {text!r}: {known!r} is subscribed to on this connection")


def _each(items: Iterable[_T], read: Callable[[_T], _R]) -> tuple[tuple[_R, ...], str]:
    """All of *items* that can be read, and what is wrong with the first that cannot."""
    good: list[_R] = []
    problem = ""
    for item in items:
        try:
            good.append(read(item))
        except (ValueError, RecursionError) as error:
            problem = problem or str(error)
    return tuple(good), problem


def _problem(text: str) -> Received:
    return Received(problem=text[:_PROBLEM_CHARS])


def _named(channel: str, problem: str) -> str:
    return f"{channel}: {problem}"[:_PROBLEM_CHARS] if problem else ""


def _channel_of(message: msgspec.Struct) -> str:
    return str(message.__struct_config__.tag)


def _is_greeting(message: str | bytes) -> bool:
    text = message if isinstance(message, str) else message[:100].decode("utf-8", "replace")
    return text.strip() == _GREETING
