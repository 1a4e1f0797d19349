"""The exceptions of the project: what may cross a package boundary, and nothing else.

Owns the exception types only. Expected outcomes (an order denied, refused, of unknown fate) are
values, never exceptions; what is raised here is either a mistake of the operator (configuration,
credentials), a broken outside (link, venue) or a broken invariant of our own.
"""

from __future__ import annotations


class ZqError(Exception):
    """Base of every exception this project raises on purpose."""


class ConfigError(ZqError):
    """The configuration cannot be used; the message lists every problem, one a line."""


class CredentialError(ZqError):
    """A secret is missing, unreadable or unsafely stored; the message never contains the secret."""


class LinkError(ZqError):
    """A network connection could not be made, was lost, or broke its protocol: retry later."""


class NeverSentError(LinkError):
    """No connection, or none in time: not a byte of the request left, so that it had no effect."""


class NoRoomError(LinkError):
    """By our own count the venue's limits leave no room soon: not a byte left, retry later."""


class LinkRefused(ZqError):
    """The far side refused us for good (authentication, bad request): retrying is useless."""


class DecodeError(ZqError):
    """A message from outside does not have the documented shape."""


class BusError(ZqError):
    """The message bus was used wrongly (unknown endpoint, double registration, bad topic)."""


class OrderError(ZqError):
    """An order event does not fit the order it names: an invariant of ours is broken."""


class StrategyError(ZqError):
    """A strategy cannot be loaded or started; the message names it and says why."""


class LogError(ZqError):
    """A framed log cannot be opened, read or written; the message names the folder and why."""


class LogInUseError(LogError):
    """Another process, or another part of this one, writes to the log; the message names it."""


class LogVersionError(LogError):
    """The log was written in a newer format; nothing was changed."""


class JournalError(ZqError):
    """The journal cannot be read or written: the daemon must not trade."""


class JournalUnavailableError(JournalError):
    """There is no journal yet, or another process holds the lock that the command needs."""


class JournalDamagedError(JournalError):
    """What the journal's files hold cannot be trusted: it says why, and what an operator can do."""


class UnresolvedOrdersError(ZqError):
    """Orders of former runs have no known end, and this start may not or cannot find it out."""


class ControlError(ZqError):
    """The control socket could not be used (no daemon there, bad request, time-out)."""


class StoppedDuringStartError(ZqError):
    """A stop was asked for before the daemon was running; the message says by whom."""


class InvariantError(ZqError):
    """A part of the daemon itself failed: it must stop and start again from what is durable."""
