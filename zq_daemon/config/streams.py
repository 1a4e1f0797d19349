"""The streams each venue has, by name, and how the configuration writes one.

Pure data and its one reading: the rules of the file and the venues themselves use the same.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen


@frozen(kw_only=True)
class StreamNames:
    """A venue's streams: of an instrument (written `<stream>:<symbol>`), and of the account."""

    market: frozenset[str]
    private: frozenset[str]


STREAMS: Mapping[str, StreamNames] = {
    "hyperliquid": StreamNames(
        market=frozenset({"l2Book", "bbo", "trades", "activeAssetCtx"}),
        private=frozenset({"orderUpdates", "userFills", "userEvents"}),
    )
}
"""By venue."""


def split_stream(venue: str, text: str) -> tuple[str, str | None]:
    """The stream *text* names and its symbol, if it takes one; ValueError says what is wrong."""
    names = STREAMS[venue]
    kind, colon, symbol = text.partition(":")
    if kind in names.private:
        if colon:
            raise ValueError(f"stream {text!r}: {kind} takes no symbol")
        return kind, None
    if kind not in names.market:
        known = ", ".join(sorted(names.market | names.private))
        raise ValueError(f"stream {text!r}: {venue} has {known}")
    if not symbol:
        raise ValueError(f"stream {text!r}: needs a symbol, e.g. '{kind}:BTC'")
    return kind, symbol
