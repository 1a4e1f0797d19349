"""Deliberate misbehaviour of the embedded exchange: for simulation and tests only."""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class Faults:
    """What the exchange does wrong on purpose; by default nothing.

    *reply_latency_ms* delays the answer to a post (its effect has happened); *drop_replies* never
    answers one. *refuse_cancels* answers every cancel with the venue's error while the order lives.
    *forget_orders* answers `unknownOid` to every order status query. *freeze_data* sends no market
    data while pongs still come; *mute* sends nothing at all. *refuse_connections* hangs up on
    every new connection.
    """

    reply_latency_ms: int = 0
    drop_replies: bool = False
    refuse_cancels: bool = False
    forget_orders: bool = False
    freeze_data: bool = False
    mute: bool = False
    refuse_connections: bool = False
