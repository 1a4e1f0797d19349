import subprocess
import sys

import pytest

import zq_daemon


@pytest.mark.parametrize("name", zq_daemon.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    assert getattr(zq_daemon, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing_here"):
        zq_daemon.nothing_here  # noqa: B018


def test_importing_the_package_imports_none_of_its_parts() -> None:
    code = "import sys, zq_daemon; print([m for m in sys.modules if m.startswith('zq_daemon.')])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
