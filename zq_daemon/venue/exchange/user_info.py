"""The queries of `/info` about users: accounts, orders, fills, money, agents, limits.

Owns no state. An unknown user is an empty account, as at the venue. Called by `info`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import ROUND_DOWN, Decimal
from itertools import chain, islice
from typing import Any

from attrs import evolve

from zq_daemon.model.market import Side
from zq_daemon.venue.exchange import messages
from zq_daemon.venue.exchange.account import UNIT, Account, UserFill
from zq_daemon.venue.exchange.envelope import Malformed
from zq_daemon.venue.exchange.fees import FeeRates
from zq_daemon.venue.exchange.listing import Perp, total, wire
from zq_daemon.venue.exchange.margin import cross_value, leverage_of, needed_margin
from zq_daemon.venue.exchange.messages import Json
from zq_daemon.venue.exchange.queries import (
    MAX_FILLS,
    MAX_HISTORY,
    MAX_ROWS,
    Queried,
    Query,
    coin_of,
    is_integer,
    times_of,
    user_of,
)

_DAY_MS = 86_400_000
_PRICE = Decimal("0.00000001")
_TOLD_DAYS = 15


def web_data(exchange: Queried, request: Json) -> Json:
    """What a user's page shows of the user (`webData2`)."""
    user = user_of(request)
    agent = next(
        (each for each in exchange.register.ties.of(user, exchange.now_ms()) if not each.name), None
    )
    ward = exchange.register.ties.ward(user)
    return {
        "user": user,
        "clearinghouseState": _clearinghouse_state(exchange, request),
        "spotState": _spot_clearinghouse_state(exchange, request),
        "openOrders": _frontend_open_orders(exchange, request),
        "agentAddress": agent.address if agent else None,
        "agentValidUntil": agent.valid_until_ms if agent else None,
        "isVault": ward is not None and ward.is_vault,
        "leadingVaults": [],
        "totalVaultEquity": "0.0",
        "cumLedger": wire(exchange.account(user).balance),
        "twapStates": [],
        "serverTime": exchange.now_ms(),
    }


def _clearinghouse_state(exchange: Queried, request: Json) -> Json:
    summary = exchange.trading.summary(exchange.account(user_of(request)))
    return messages.account_state(summary, exchange.now_ms())


def _spot_clearinghouse_state(exchange: Queried, request: Json) -> Json:
    account, trading = exchange.account(user_of(request)), exchange.trading
    holds = trading.spot_holds(account)
    return messages.spot_state(account, holds, trading.listing.tokens)


def _open_orders(exchange: Queried, request: Json) -> Any:
    orders = exchange.account(user_of(request)).open_orders()
    return [messages.open_order(order) for order in orders]


def _frontend_open_orders(exchange: Queried, request: Json) -> Any:
    orders = exchange.account(user_of(request)).open_orders()
    return [messages.frontend_order(order) for order in orders]


def _order_status(exchange: Queried, request: Json) -> Any:
    oid = request.get("oid")
    if not is_integer(oid) and not isinstance(oid, str):
        raise Malformed
    user = user_of(request)
    order = exchange.trading.orders.find(user, oid.lower() if isinstance(oid, str) else oid)
    if order is None or exchange.forgets_order():
        return {"status": "unknownOid"}
    return {"status": "order", "order": messages.order_status(order)}


def _historical_orders(exchange: Queried, request: Json) -> Any:
    user = user_of(request)
    live = exchange.account(user).orders.values()
    orders = chain(live, exchange.trading.orders.history(user))
    return [messages.order_status(order) for order in islice(orders, MAX_HISTORY)]


def _user_fills(exchange: Queried, request: Json) -> Any:
    fills = _fills(exchange.told_fills(user_of(request)), request)[-MAX_FILLS:]
    return [messages.fill(fill) for fill in reversed(fills)]


def _user_fills_by_time(exchange: Queried, request: Json) -> Any:
    start, end = times_of(request, exchange)
    fills = exchange.told_fills(user_of(request))
    chosen = (fill for fill in fills if start <= fill.time_ms <= end)
    return [messages.fill(fill) for fill in _fills(chosen, request)[:MAX_FILLS]]


def _fills(fills: Iterable[UserFill], request: Json) -> list[UserFill]:
    """*fills*, or with `aggregateByTime` one for all that a crossing order got at once."""
    wanted = request.get("aggregateByTime")
    if wanted not in (None, False, True):
        raise Malformed
    if not wanted:
        return list(fills)
    told: list[UserFill] = []
    for fill in fills:
        if told and fill.crossed and _event(told[-1]) == _event(fill):
            told[-1] = _together(told[-1], fill)
        else:
            told.append(fill)
    return told


def _event(fill: UserFill) -> tuple[int, int, str]:
    return fill.oid, fill.time_ms, fill.direction


def _together(first: UserFill, second: UserFill) -> UserFill:
    size = first.size + second.size
    notional = first.price * first.size + second.price * second.size
    return evolve(
        first,
        price=(notional / size).quantize(_PRICE),
        size=size,
        closed_pnl=first.closed_pnl + second.closed_pnl,
        fee=first.fee + second.fee,
    )


def _user_funding(exchange: Queried, request: Json) -> Any:
    start, end = times_of(request, exchange)
    payments = exchange.account(user_of(request)).payments
    chosen = (payment for payment in payments if start <= payment.time_ms <= end)
    return [messages.funding_delta(payment) for payment in islice(chosen, MAX_ROWS)]


def _ledger_updates(exchange: Queried, request: Json) -> Any:
    start, end = times_of(request, exchange)
    updates = exchange.account(user_of(request)).updates
    chosen = (update for update in updates if start <= update.time_ms <= end)
    return [messages.ledger_update(update) for update in islice(chosen, MAX_ROWS)]


def _user_role(exchange: Queried, request: Json) -> Any:
    user, ties = user_of(request), exchange.register.ties
    if agent := ties.agent(user, exchange.now_ms()):
        return {"role": "agent", "data": {"user": agent.account}}
    if ward := ties.ward(user):
        if ward.is_vault:
            return {"role": "vault"}
        return {"role": "subAccount", "data": {"master": ward.owner}}
    return {"role": "missing" if exchange.register.account_of(user) is None else "user"}


def _extra_agents(exchange: Queried, request: Json) -> Any:
    named = exchange.register.ties.named(user_of(request), exchange.now_ms())
    return [
        {"name": agent.name, "address": agent.address, "validUntil": agent.valid_until_ms}
        for agent in named
    ]


def _sub_accounts(exchange: Queried, request: Json) -> Any:
    wards = exchange.register.ties.sub_accounts(user_of(request))
    told = [
        {
            "name": ward.name,
            "subAccountUser": ward.address,
            "master": ward.owner,
            "clearinghouseState": _clearinghouse_state(exchange, {"user": ward.address}),
            "spotState": _spot_clearinghouse_state(exchange, {"user": ward.address}),
        }
        for ward in wards
    ]
    return told or None


def _user_rate_limit(exchange: Queried, request: Json) -> Any:
    user = user_of(request)
    traded = exchange.account(user).traded
    return {
        "cumVlm": wire(traded),
        "nRequestsUsed": exchange.meter.requests(user),
        "nRequestsCap": exchange.meter.cap(traded),
    }


def _user_fees(exchange: Queried, request: Json) -> Any:
    account, rates = exchange.account(user_of(request)), exchange.trading.clearing.rates
    now_day = exchange.now_ms() // _DAY_MS
    days = range(now_day - _TOLD_DAYS + 1, now_day + 1)
    return {
        "dailyUserVlm": [_day_volume(account.fills, day) for day in days],
        "feeSchedule": _rates(rates, "cross", "add", "spotCross", "spotAdd")
        | {
            "tiers": {"vip": [], "mm": []},
            "referralDiscount": "0.0",
            "stakingDiscountTiers": [],
        },
        **_rates(rates, "userCrossRate", "userAddRate", "userSpotCrossRate", "userSpotAddRate"),
        "activeReferralDiscount": "0.0",
        "trial": None,
        "feeTrialReward": "0.0",
        "nextTrialAvailableTimestamp": None,
    }


def _rates(rates: FeeRates, *names: str) -> Json:
    values = (rates.perp_taker, rates.perp_maker, rates.spot_taker, rates.spot_maker)
    return {name: wire(rate) for name, rate in zip(names, values, strict=True)}


def _day_volume(fills: Iterable[UserFill], day: int) -> Json:
    cross, add = Decimal(0), Decimal(0)
    for fill in fills:
        if fill.time_ms // _DAY_MS == day:
            cross += fill.price * fill.size * fill.crossed
            add += fill.price * fill.size * (not fill.crossed)
    return {
        "date": messages.date_text(day * _DAY_MS),
        "userCross": wire(cross),
        "userAdd": wire(add),
        "exchange": "0.0",
    }


def _active_asset_data(exchange: Queried, request: Json) -> Any:
    user, coin = user_of(request), coin_of(request)
    perp = exchange.trading.listing.named(coin)
    if not isinstance(perp, Perp):
        raise Malformed
    account, clearing = exchange.account(user), exchange.trading.clearing
    mark, leverage = clearing.mark(coin), leverage_of(account, coin, clearing)
    free = {side: _free(exchange, account, coin, side) for side in (Side.BUY, Side.SELL)}
    lot = Decimal(1).scaleb(-perp.size_decimals)
    sizes = [
        (amount * leverage.value / mark).quantize(lot, ROUND_DOWN) if mark else Decimal(0)
        for amount in free.values()
    ]
    return {
        "user": user,
        "coin": coin,
        "leverage": messages.leverage(leverage, _raw_usd(account, coin)),
        "maxTradeSzs": [wire(size) for size in sizes],
        "availableToTrade": [wire(amount) for amount in free.values()],
        "markPx": wire(mark),
    }


def _raw_usd(account: Account, coin: str) -> Decimal:
    held = account.positions.get(coin)
    return held.raw_usd if held else Decimal(0)


def _free(exchange: Queried, account: Account, coin: str, side: Side) -> Decimal:
    """What the wallet has free for orders on *side*: closing a position frees its margin twice."""
    clearing = exchange.trading.clearing
    needed = needed_margin(account, clearing, clearing.reach(account))
    free = max(cross_value(account, clearing) - needed, Decimal(0))
    size = account.position_size(coin)
    if size * side.sign < 0:
        notional = abs(size) * clearing.mark(coin)
        free += 2 * notional / leverage_of(account, coin, clearing).value
    return free.quantize(UNIT, ROUND_DOWN)


def _portfolio(exchange: Queried, request: Json) -> Any:
    """Only what is true now: no history of values is kept."""
    account = exchange.account(user_of(request))
    now_ms, value = exchange.now_ms(), account.value(exchange.trading.mark)
    volume = total(fill.price * fill.size for fill in account.fills)
    told = {
        "accountValueHistory": [[now_ms, wire(value)]],
        "pnlHistory": [],
        "vlm": wire(volume),
    }
    periods = ("day", "week", "month", "allTime")
    return [[name, told] for name in (*periods, *(f"perp{p[0].upper()}{p[1:]}" for p in periods))]


def _nothing(value: Any) -> Query:
    def query(_: Queried, request: Json) -> Any:
        user_of(request)
        return value

    return query


def _vault_details(exchange: Queried, request: Json) -> Any:
    """Of a vault only whose it is; null for any other address."""
    ward = exchange.register.ties.ward(user_of({"user": request.get("vaultAddress")}))
    if ward is None or not ward.is_vault:
        return None
    return {"name": ward.name, "vaultAddress": ward.address, "leader": ward.owner}


USER_QUERIES: Mapping[str, Query] = {
    "clearinghouseState": _clearinghouse_state,
    "spotClearinghouseState": _spot_clearinghouse_state,
    "openOrders": _open_orders,
    "frontendOpenOrders": _frontend_open_orders,
    "orderStatus": _order_status,
    "historicalOrders": _historical_orders,
    "userFills": _user_fills,
    "userFillsByTime": _user_fills_by_time,
    "userFunding": _user_funding,
    "userNonFundingLedgerUpdates": _ledger_updates,
    "userRole": _user_role,
    "extraAgents": _extra_agents,
    "vaultDetails": _vault_details,
    "subAccounts": _sub_accounts,
    "userRateLimit": _user_rate_limit,
    "userFees": _user_fees,
    "activeAssetData": _active_asset_data,
    "portfolio": _portfolio,
}
NOTHING_OF_USERS: Mapping[str, Query] = {
    "delegations": _nothing([]),
    "delegatorHistory": _nothing([]),
    "delegatorRewards": _nothing([]),
    "delegatorSummary": _nothing(
        {
            "delegated": "0.0",
            "undelegated": "0.0",
            "totalPendingWithdrawal": "0.0",
            "nPendingWithdrawals": 0,
        }
    ),
    "maxBuilderFee": _nothing(0),
    "userToMultiSigSigners": _nothing(None),
    "userTwapSliceFills": _nothing([]),
    "userVaultEquities": _nothing([]),
}
"""What nobody has here."""
