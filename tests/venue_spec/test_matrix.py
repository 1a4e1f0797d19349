"""The document and the tests are one list, and it would be noticed if they were not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.venue_spec import matrix
from tests.venue_spec.matrix import Row

ROOT = Path(__file__).parents[2]
FOLDER = "tests/venue_spec"
DOCUMENT = """
## First (`a.py`)

| No. | The adapter must | Test |
|---|---|---|
| V01 | do this | `test_v01_this` |
| V02 | do that | `test_v02_that` |
"""
TESTS = "async def test_v01_this(): ...\ndef test_v02_that(): ...\ndef other(): ...\n"


def test_the_document_lists_the_tests() -> None:
    sources = {
        f"{FOLDER}/{path.name}": path.read_text()
        for path in sorted((ROOT / FOLDER).glob("test_*.py"))
        if path.name != Path(__file__).name
    }
    document = (ROOT / "docs/venue-spec.md").read_text()
    assert list(matrix.differences(document, sources)) == []
    assert len(matrix.documented(document)) >= 70


def test_a_sound_matrix_has_no_differences() -> None:
    assert matrix.documented(DOCUMENT) == [
        Row("V01", "test_v01_this", "a.py"),
        Row("V02", "test_v02_that", "a.py"),
    ]
    assert list(matrix.differences(DOCUMENT, {"a.py": TESTS})) == []


@pytest.mark.parametrize(
    ("document", "tests"),
    [
        (DOCUMENT, TESTS.replace("test_v02_that", "test_v02_other")),
        (DOCUMENT, TESTS + "def test_v03_more(): ..."),
        (DOCUMENT, TESTS + "def test_without_number(): ..."),
        (DOCUMENT, TESTS + TESTS),
        (DOCUMENT, "def test_v01_this(): ..."),
        (DOCUMENT.replace("a.py", "b.py"), TESTS),
        (DOCUMENT.replace("V02", "V03"), TESTS),
        (DOCUMENT.replace("V02", "V03"), TESTS.replace("v02", "v03")),
        (DOCUMENT.replace("02", "03"), TESTS.replace("02", "03")),
        (DOCUMENT + "| V02 | again | `test_v02_that` |", TESTS),
    ],
)
def test_a_difference_is_noticed(document: str, tests: str) -> None:
    assert list(matrix.differences(document, {"a.py": tests}))
