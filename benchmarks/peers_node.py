"""NautilusTrader's LiveNode doing nothing, in a process of its own: no clients, no strategies.

Run by the peers' interpreter. It says `running` on standard error, and ends with the process.
"""

from __future__ import annotations

import sys
import threading
import time

from nautilus_trader.common import Environment
from nautilus_trader.live import LiveNode, LiveNodeHandle
from nautilus_trader.model import TraderId


def main() -> None:
    builder = LiveNode.builder("idle", TraderId("IDLE-001"), Environment.SANDBOX)
    node = builder.with_delay_post_stop_secs(0).build()
    threading.Thread(target=_announce, args=(node.handle(),), daemon=True).start()
    node.run()


def _announce(handle: LiveNodeHandle) -> None:
    while not handle.is_running:
        time.sleep(0.05)
    print("running", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
