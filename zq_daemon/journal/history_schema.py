"""The tables of `history.sqlite`, and how values look in them: made for people and their queries.

Owns the schema and its version. Decimals are text without exponents, times are UTC text and
nanoseconds beside it. The first four tables are for people; `positions`, `instruments` and the
column `orders.state` are what the history needs to go on. Called by `journal.history` only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from zq_daemon.model.position import Position

VERSION: Final = 3
NS_PER_DAY: Final = 86_400 * 1_000_000_000

_TABLES = """
CREATE TABLE orders (
    client_order_id TEXT PRIMARY KEY, run_id TEXT NOT NULL, strategy TEXT NOT NULL,
    account TEXT NOT NULL, instrument TEXT NOT NULL, side TEXT NOT NULL, type TEXT NOT NULL,
    time_in_force TEXT NOT NULL, post_only INTEGER NOT NULL, reduce_only INTEGER NOT NULL,
    price TEXT, trigger_price TEXT, quantity TEXT NOT NULL, filled TEXT NOT NULL,
    average_price TEXT, fees TEXT NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL,
    venue_order_id TEXT,
    created TEXT NOT NULL, created_ns INTEGER NOT NULL,
    updated TEXT NOT NULL, updated_ns INTEGER NOT NULL,
    closed TEXT, closed_ns INTEGER, state BLOB NOT NULL
);
CREATE TABLE fills (
    sequence INTEGER NOT NULL, time TEXT NOT NULL, time_ns INTEGER NOT NULL,
    account TEXT NOT NULL, strategy TEXT, instrument TEXT NOT NULL, side TEXT NOT NULL,
    price TEXT NOT NULL, quantity TEXT NOT NULL, value TEXT NOT NULL,
    fee TEXT NOT NULL, fee_currency TEXT NOT NULL, liquidity TEXT NOT NULL,
    realised TEXT NOT NULL, trade_id TEXT NOT NULL, client_order_id TEXT,
    venue_order_id TEXT NOT NULL, synthetic INTEGER NOT NULL,
    PRIMARY KEY (sequence, synthetic)
);
CREATE INDEX fills_by_order ON fills (client_order_id);
CREATE TABLE pnl_by_day (
    account TEXT NOT NULL, day TEXT NOT NULL, instrument TEXT NOT NULL,
    realised TEXT NOT NULL, fees TEXT NOT NULL, funding TEXT NOT NULL, net TEXT NOT NULL,
    volume TEXT NOT NULL, fills INTEGER NOT NULL,
    PRIMARY KEY (account, day, instrument)
);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE positions (
    account TEXT NOT NULL, instrument TEXT NOT NULL, quantity TEXT NOT NULL, cost TEXT NOT NULL,
    realised TEXT NOT NULL, fees TEXT NOT NULL, funding TEXT NOT NULL,
    updated TEXT NOT NULL, updated_ns INTEGER NOT NULL,
    PRIMARY KEY (account, instrument)
);
CREATE TABLE instruments (instrument TEXT PRIMARY KEY, terms BLOB NOT NULL);
"""

TABLES: Final = ("orders", "fills", "pnl_by_day", "positions", "instruments")


class WrongSchemaError(sqlite3.DatabaseError):
    """The file has other tables than this version's: it has to be built again."""


def prepare(connection: sqlite3.Connection) -> int:
    """Make the tables where there are none; the last record that was applied.

    WrongSchemaError for tables of another version, sqlite3.DatabaseError for a corrupt file.
    """
    if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        connection.executescript(f"BEGIN; {_TABLES}")
        connection.execute("INSERT INTO meta VALUES ('schema', ?)", (str(VERSION),))
        connection.execute("INSERT INTO meta VALUES ('sequence', '0')")
        connection.execute("COMMIT")
    try:
        known = dict(connection.execute("SELECT key, value FROM meta"))
        if known["schema"] != str(VERSION):
            raise WrongSchemaError(f"schema {known['schema']}, this version has {VERSION}")
        return int(known["sequence"])
    except (sqlite3.OperationalError, KeyError, ValueError) as error:
        if isinstance(error, sqlite3.OperationalError) and "no such table" not in str(error):
            raise
        raise WrongSchemaError(f"no history of this program ({error})") from error


def put(connection: sqlite3.Connection, table: str, rows: Sequence[Sequence[object]]) -> None:
    """Insert or replace whole rows of one table."""
    if rows:
        places = ", ".join("?" * len(rows[0]))
        connection.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({places})", rows)


def plain(value: Decimal) -> str:
    """A decimal as people write it, to the last digit."""
    return format(value, "f")


def time_text(ns: int) -> str:
    """Nanoseconds since the epoch as UTC text; the number itself where no calendar has it."""
    seconds, rest = divmod(ns, 1_000_000_000)
    try:
        moment = datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
    except (OverflowError, OSError, ValueError):
        return str(ns)
    return f"{moment}.{rest // 1_000:06}Z"


def stored_ns(ns: int) -> int:
    """The time as a column can hold it: a venue may say anything."""
    return min(max(ns, -(1 << 63)), (1 << 63) - 1)


def day_text(ns: int) -> str:
    """The UTC day of a time."""
    return time_text(ns).partition("T")[0]


def position_row(position: Position) -> tuple[object, ...]:
    """A row of `positions`."""
    return (
        position.account_id,
        position.instrument_id,
        plain(position.quantity),
        plain(position.cost),
        plain(position.realized_pnl),
        plain(position.fees),
        plain(position.funding),
        time_text(position.ts_last_ns),
        stored_ns(position.ts_last_ns),
    )
