"""The installed version of the project."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("zq-daemon")
except PackageNotFoundError:
    VERSION = "0+uninstalled"
