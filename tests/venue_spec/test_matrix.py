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
| TC-001 | do this | `test_tc001_this` |
| TC-002 | do that | `test_tc002_that` |
"""
TESTS = "async def test_tc001_this(): ...\ndef test_tc002_that(): ...\ndef other(): ...\n"


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
        Row("TC-001", "test_tc001_this", "a.py"),
        Row("TC-002", "test_tc002_that", "a.py"),
    ]
    assert list(matrix.differences(DOCUMENT, {"a.py": TESTS})) == []


@pytest.mark.parametrize(
    ("document", "tests"),
    [
        (DOCUMENT, TESTS.replace("test_tc002_that", "test_tc002_other")),
        (DOCUMENT, TESTS + "def test_tc003_more(): ..."),
        (DOCUMENT, TESTS + "def test_without_number(): ..."),
        (DOCUMENT, TESTS + TESTS),
        (DOCUMENT, "def test_tc001_this(): ..."),
        (DOCUMENT.replace("a.py", "b.py"), TESTS),
        (DOCUMENT.replace("TC-002", "TC-003"), TESTS),
        (DOCUMENT.replace("TC-002", "TC-003"), TESTS.replace("tc002", "tc003")),
        (DOCUMENT.replace("02", "03"), TESTS.replace("02", "03")),
        (DOCUMENT + "| TC-002 | again | `test_tc002_that` |", TESTS),
    ],
)
def test_a_difference_is_noticed(document: str, tests: str) -> None:
    assert list(matrix.differences(document, {"a.py": tests}))
