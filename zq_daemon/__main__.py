"""`python -m zq_daemon` is `zq-daemon`."""

from __future__ import annotations

from zq_daemon.cli.main import main

if __name__ == "__main__":
    main()
