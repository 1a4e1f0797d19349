"""Commands: imperative values sent to one handler over the bus."""

from __future__ import annotations

from decimal import Decimal

from attrs import frozen

from zq_daemon.model.ids import ClientOrderId, InstrumentId, StrategyId
from zq_daemon.model.order import Order


@frozen(kw_only=True)
class SubmitOrder:
    """Submit *order* (status INITIALIZED, its client order id freshly minted)."""

    order: Order


@frozen(kw_only=True)
class SubmitBracket:
    """Submit *entry* with its *exits*, which the venue holds until it has filled.

    An exit is a reduce-only trigger order whose *parent_id* is the entry. When one is filled the
    venue cancels the other.
    """

    entry: Order
    exits: tuple[Order, ...]


@frozen(kw_only=True)
class CancelOrder:
    """Cancel one order by client order id."""

    client_order_id: ClientOrderId


@frozen(kw_only=True)
class ModifyOrder:
    """Change price and total quantity of a live order (None: leave as it is)."""

    client_order_id: ClientOrderId
    price: Decimal | None = None
    quantity: Decimal | None = None


@frozen(kw_only=True)
class CancelAllOrders:
    """Cancel every live order, narrowed by strategy and instrument where given."""

    strategy_id: StrategyId | None = None
    instrument_id: InstrumentId | None = None


Command = SubmitOrder | SubmitBracket | CancelOrder | ModifyOrder | CancelAllOrders
