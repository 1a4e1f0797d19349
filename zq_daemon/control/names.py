"""Finds what an operator named: a strategy, an instrument. An unknown name is told what exists.

Orders and positions outlive the configuration (the journal brings them back), so a strategy that is
no longer configured can still be named as long as something of it is known.
"""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from typing import TYPE_CHECKING

from zq_daemon.control.arguments import BadRequest, shown
from zq_daemon.model.ids import InstrumentId, StrategyId

if TYPE_CHECKING:
    from zq_daemon.assembly import Assembly

_NAMES_TOLD = 12


def find_strategy(parts: Assembly, name: str | None) -> StrategyId | None:
    """The strategy called *name*, running or only remembered; None for None, BadRequest if none."""
    if name is None:
        return None
    strategy_id, cache = StrategyId(name), parts.cache
    if (
        strategy_id in parts.strategies.strategies()
        or cache.orders_live(strategy_id=strategy_id)
        or cache.orders_closed(strategy_id=strategy_id)
        or parts.portfolio.strategy_positions(strategy_id)
    ):
        return strategy_id
    raise BadRequest(_unknown("strategy", name, strategy_names(parts)))


def find_hosted(parts: Assembly, name: str) -> StrategyId:
    """The strategy called *name* that this daemon runs; BadRequest if it runs none of that name."""
    hosted = parts.strategies.strategies()
    if StrategyId(name) not in hosted:
        raise BadRequest(_unknown("strategy", name, hosted))
    return StrategyId(name)


def find_instrument(parts: Assembly, name: str | None) -> InstrumentId | None:
    """The instrument *name*, `venue.SYMBOL`; None for None, BadRequest if there is none."""
    if name is None:
        return None
    instrument_id, cache = InstrumentId(name), parts.cache
    if (
        cache.instrument(instrument_id) is not None
        or cache.orders_live(instrument_id=instrument_id)
        or cache.orders_closed(instrument_id=instrument_id)
    ):
        return instrument_id
    raise BadRequest(_unknown("instrument", name, parts.instruments))


def strategy_names(parts: Assembly) -> tuple[StrategyId, ...]:
    """Every strategy that is loaded, or that holds something or has live orders."""
    live = (order.strategy_id for order in parts.cache.orders_live())
    names = (*parts.strategies.strategies(), *parts.portfolio.strategy_ids(), *live)
    return tuple(dict.fromkeys(names))


def _unknown(what: str, name: str, known: Collection[str]) -> str:
    """An error that names what there is, first what was probably meant."""
    text = f"unknown {what} {shown(name)}"
    guess = _guess(name, list(known))
    if guess is not None:
        text += f"; did you mean {guess!r}?"
    told = ", ".join(list(known)[:_NAMES_TOLD]) or "none"
    more = f" and {len(known) - _NAMES_TOLD} more" if len(known) > _NAMES_TOLD else ""
    return f"{text}{'' if text.endswith('?') else ';'} there are: {told}{more}"


def _guess(name: str, candidates: Collection[str]) -> str | None:
    """What was probably meant: the symbol without its venue, or something spelt much like it."""
    for candidate in candidates:
        if candidate.partition(".")[2].lower() == name.lower():
            return candidate
    return next(iter(get_close_matches(name, candidates, n=1)), None)
