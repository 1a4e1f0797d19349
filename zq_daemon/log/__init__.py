"""One storage mechanism: CRC-framed records in segments, one writer, group commit."""

from zq_daemon.log.log import Log, LogSettings, LogStats
from zq_daemon.log.opening import open_log
from zq_daemon.log.read import inspect_log, read_log
from zq_daemon.log.report import Damage, Opening
from zq_daemon.log.segment import Batch

__all__ = [
    "Batch",
    "Damage",
    "Log",
    "LogSettings",
    "LogStats",
    "Opening",
    "inspect_log",
    "open_log",
    "read_log",
]
