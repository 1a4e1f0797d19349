"""The randomness port: one seeded generator for what must replay, system entropy for secrets."""

from __future__ import annotations

import random
import secrets
from typing import Protocol


class Rng(Protocol):
    """Where the daemon gets randomness (jitter, run ids, generated keys)."""

    def random(self) -> float:
        """A float in [0, 1)."""

    def randbytes(self, n: int) -> bytes:
        """*n* random bytes."""


def system_rng() -> Rng:
    """Operating-system entropy: fit for keys."""
    return secrets.SystemRandom()


def seeded_rng(seed: int) -> random.Random:
    """A generator that replays: the whole `random.Random` interface, for simulation."""
    return random.Random(seed)
