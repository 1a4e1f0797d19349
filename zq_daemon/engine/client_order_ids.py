"""Mints client order ids: unique for ever, and the same again when a run is replayed."""

from __future__ import annotations

from zq_daemon.model.ids import EXTERNAL_RUN_ID, ClientOrderId, client_order_id
from zq_daemon.ports.rng import Rng


def new_run_id(rng: Rng) -> int:
    """64 random bits that no other run has, and external orders do not either."""
    run_id = EXTERNAL_RUN_ID
    while run_id == EXTERNAL_RUN_ID:
        run_id = int.from_bytes(rng.randbytes(8), "big")
    return run_id


class ClientOrderIds:
    """Ids of the run *run_id*, counted from 1."""

    def __init__(self, run_id: int) -> None:
        self.run_id = run_id
        self._count = 0

    def __call__(self) -> ClientOrderId:
        """The next id."""
        self._count += 1
        return client_order_id(self.run_id, self._count)
