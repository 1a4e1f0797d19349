"""The examples of README.md do what it says."""

import re
import subprocess
import sys
from pathlib import Path

from tests.harness.process import demo_config, free_port, running_daemon

_README = Path(__file__).parents[2] / "README.md"


def _block(language: str, containing: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", _README.read_text(), re.DOTALL)
    (found,) = [block for block in blocks if containing in block]
    return str(found)


def test_a_daemon_opened_from_python(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(demo_config(free_port()))
    code = _block("python", "open_daemon(").replace("config.toml.example", str(config))
    assert "trio.sleep(10)" in code
    script = tmp_path / "example.py"
    script.write_text(code.replace("trio.sleep(10)", "trio.sleep(3)"))
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "OrderAccepted(" in done.stdout


async def test_a_strategy_of_ones_own(tmp_path: Path) -> None:
    folder = tmp_path / "my_strategies"
    folder.mkdir()
    (folder / "dip.py").write_text(_block("python", "class BuyTheDip"))
    table = _block("toml", "BuyTheDip").replace("dip = 0.002", "dip = 0.00001")
    config = demo_config(free_port(), strategies=False) + table
    async with running_daemon(tmp_path, config) as daemon:
        await daemon.wait_event("order filled", strategy="dip")
        assert await daemon.stop() == 0
