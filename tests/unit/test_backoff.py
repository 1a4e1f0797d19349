from zq_daemon.ports.rng import seeded_rng
from zq_daemon.runtime.backoff import Backoff


class _Never:
    """No jitter."""

    def random(self) -> float:
        return 0.0

    def randbytes(self, n: int) -> bytes:
        return bytes(n)


def test_doubles_up_to_the_bound() -> None:
    backoff = Backoff(1_000, 60_000, _Never())
    delays = [backoff.next_delay_ms() for _ in range(8)]
    assert delays == [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000]
    assert backoff.attempts == 8


def test_reset_starts_over() -> None:
    backoff = Backoff(1_000, 60_000, _Never())
    backoff.next_delay_ms()
    backoff.next_delay_ms()
    backoff.reset()
    assert backoff.attempts == 0
    assert backoff.next_delay_ms() == 1_000


def test_jitter_only_shortens_and_by_a_quarter_at_most() -> None:
    backoff = Backoff(1_000, 8_000, seeded_rng(1))
    full = [1_000, 2_000, 4_000, 8_000, 8_000]
    delays = [backoff.next_delay_ms() for _ in full]
    assert all(0.75 * bound <= delay <= bound for delay, bound in zip(delays, full, strict=True))
    assert delays != full


def test_a_thousand_attempts_stay_at_the_bound() -> None:
    backoff = Backoff(1_000, 60_000, _Never())
    assert [backoff.next_delay_ms() for _ in range(1_000)][-1] == 60_000
