"""Mints client order ids: unique for ever, and the same again when a run is replayed."""

from __future__ import annotations

from zq_daemon.model.ids import ClientOrderId, client_order_id


class ClientOrderIds:
    """Ids of the run *run_id* (64 random bits, new for each start), counted from 1."""

    def __init__(self, run_id: int) -> None:
        self.run_id = run_id
        self._count = 0

    def __call__(self) -> ClientOrderId:
        """The next id."""
        self._count += 1
        return client_order_id(self.run_id, self._count)
