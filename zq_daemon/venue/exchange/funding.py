"""Funding: what longs and shorts of a perpetual pay one another at each interval.

Owns the sampling of premiums and the times of payment. The documented formula: the premium is how
far the prices at which a fixed notional trades (the impact prices) lie beyond the oracle, sampled
every five seconds and averaged over the interval; the rate of eight hours is
`premium + clamp(0.01 % - premium, -0.05 %, 0.05 %)`, and an eighth of it, at most 4 %, is paid at
each interval on position size times oracle price. Rates are quantised to ten decimals, payments to
six. Without an oracle of its own a market's premium is that against its mark.

A clock that leaps over several intervals pays once. Called by `trading`.
"""

from __future__ import annotations

from collections import deque
from decimal import Decimal

from attrs import define, frozen

from zq_daemon.model.market import BookLevel, Side
from zq_daemon.venue.exchange.account import UNIT, FundingPayment
from zq_daemon.venue.exchange.clearinghouse import Clearinghouse

HOUR_MS = 3_600_000
SAMPLE_MS = 5_000
KEPT_RATES = 500
_INTEREST = Decimal("0.0001")
_CLAMP = Decimal("0.0005")
_CAP = Decimal("0.04")
_RATE = Decimal("0.0000000001")
_IMPACT = {"BTC": Decimal(20_000), "ETH": Decimal(20_000)}
_IMPACT_OTHERS = Decimal(6_000)
_DEPTH = 50
_ZERO = Decimal(0)


@frozen(kw_only=True)
class FundingRate:
    """What an interval's funding was, as `fundingHistory` tells it."""

    coin: str
    rate: Decimal
    premium: Decimal
    time_ms: int


@define
class _Samples:
    total: Decimal = _ZERO
    count: int = 0


class Funding:
    """Samples premiums and pays, at multiples of *interval_ms* of the wall clock."""

    def __init__(self, clearing: Clearinghouse, *, interval_ms: int = HOUR_MS) -> None:
        if interval_ms < 1:
            raise ValueError("the funding interval must be positive")
        self._clearing = clearing
        self._interval_ms = interval_ms
        self._sample_ms = min(SAMPLE_MS, interval_ms)
        self._samples: dict[str, _Samples] = {}
        self._history: dict[str, deque[FundingRate]] = {}
        self._next_pay_ms: int | None = None
        self._next_sample_ms = 0

    def next_due_ms(self) -> int:
        """When `advance` has something to do."""
        return min(self._next_sample_ms, self._next_pay_ms or 0)

    def advance(self, now_ms: int) -> None:
        """Sample and pay what is due."""
        if self._next_pay_ms is None:
            self._next_pay_ms = _following(now_ms, self._interval_ms)
        if now_ms >= self._next_sample_ms:
            self._next_sample_ms = _following(now_ms, self._sample_ms)
            self._sample()
        if now_ms >= self._next_pay_ms:
            self._next_pay_ms = _following(now_ms, self._interval_ms)
            self._pay(now_ms)

    def premium(self, coin: str) -> Decimal:
        """The premium now, as a fraction of the oracle price."""
        oracle = self._clearing.oracle(coin)
        prices = self.impact_prices(coin)
        if prices is None or not oracle:
            return _ZERO
        bid, ask = prices
        gap = max(bid - oracle, _ZERO) - max(oracle - ask, _ZERO)
        return (gap / oracle).quantize(_RATE)

    def impact_prices(self, coin: str) -> tuple[Decimal, Decimal] | None:
        """Average prices of selling and of buying the impact notional; None without a book."""
        book = self._clearing.market.matcher(coin)
        bids, asks = (book.depth(side, _DEPTH) for side in (Side.BUY, Side.SELL))
        if not bids or not asks:
            return None
        notional = _IMPACT.get(coin, _IMPACT_OTHERS)
        return _average(bids, notional), _average(asks, notional)

    def rate(self, coin: str) -> Decimal:
        """The rate an interval would be paid at, by the samples so far."""
        return _rate(self._mean(coin))

    def history(self, coin: str) -> tuple[FundingRate, ...]:
        """The latest rates that were paid, oldest first."""
        return tuple(self._history.get(coin, ()))

    def _sample(self) -> None:
        for perp in self._clearing.listing.perps:
            if not perp.delisted and self._clearing.mark(perp.name):
                samples = self._samples.setdefault(perp.name, _Samples())
                samples.total += self.premium(perp.name)
                samples.count += 1

    def _mean(self, coin: str) -> Decimal:
        samples = self._samples.get(coin)
        if samples is None or not samples.count:
            return self.premium(coin)
        return (samples.total / samples.count).quantize(_RATE)

    def _pay(self, now_ms: int) -> None:
        for perp in self._clearing.listing.perps:
            oracle = self._clearing.oracle(perp.name)
            if perp.delisted or not oracle:
                continue
            premium = self._mean(perp.name)
            count = self._samples.pop(perp.name, _Samples()).count
            paid = FundingRate(coin=perp.name, rate=_rate(premium), premium=premium, time_ms=now_ms)
            self._history.setdefault(perp.name, deque(maxlen=KEPT_RATES)).append(paid)
            self._pay_holders(paid, oracle, count)

    def _pay_holders(self, paid: FundingRate, oracle: Decimal, samples: int) -> None:
        for account in self._clearing.accounts.values():
            size = account.position_size(paid.coin)
            if size:
                payment = FundingPayment(
                    coin=paid.coin,
                    time_ms=paid.time_ms,
                    usdc=-(size * oracle * paid.rate).quantize(UNIT),
                    size=size,
                    rate=paid.rate,
                    samples=samples,
                )
                self._clearing.pay_funding(account, payment)


def _rate(premium: Decimal) -> Decimal:
    eight_hours = premium + min(max(_INTEREST - premium, -_CLAMP), _CLAMP)
    return min(max(eight_hours / 8, -_CAP), _CAP).quantize(_RATE)


def _average(levels: list[BookLevel], notional: Decimal) -> Decimal:
    """The average price of *notional*, or of all there is."""
    left, size = notional, _ZERO
    for level in levels:
        part = min(left, level.price * level.quantity)
        size += part / level.price
        left -= part
        if not left:
            break
    return (notional - left) / size


def _following(now_ms: int, step_ms: int) -> int:
    return now_ms - now_ms % step_ms + step_ms
