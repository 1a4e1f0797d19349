"""How the streams of an endpoint are spread over connections."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zq_daemon.venue.endpoint import spread


def is_private(streams: Sequence[str]) -> bool:
    return any(each.startswith("private") for each in streams)


@pytest.mark.parametrize(
    ("streams", "most", "parts"),
    [
        ("a b c", 3, ["a b c"]),
        ("a b c", 2, ["a b", "c"]),
        ("a b c d e", 2, ["a b", "c d", "e"]),
        ("a b private c", 2, ["private a", "b c"]),
        ("a private1 private2 private3", 2, ["private1 private2 private3", "a"]),
        ("private", 1, ["private"]),
    ],
)
def test_private_streams_stay_together_and_first(streams: str, most: int, parts: list[str]) -> None:
    found = spread(tuple(streams.split()), most, is_private)
    assert [" ".join(part) for part in found] == parts


@given(
    st.lists(
        st.sampled_from([f"{kind}{n}" for kind in ("m", "private") for n in range(9)]),
        unique=True,
        min_size=1,
    ),
    st.integers(1, 6),
)
def test_every_stream_is_on_one_connection(streams: list[str], most: int) -> None:
    parts = spread(tuple(streams), most, is_private)
    assert sorted(each for part in parts for each in part) == sorted(streams)
    private = sum(1 for each in streams if is_private((each,)))
    assert all(0 < len(part) <= max(most, private) for part in parts)
    assert not any(is_private(part) for part in parts[1:])
