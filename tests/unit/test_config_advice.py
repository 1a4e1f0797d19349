import pytest

from tests.harness.process import demo_config
from zq_daemon.config.advice import advise
from zq_daemon.config.load import parse_document, structure_config


def _advice(old: str = "", new: str = "") -> str:
    text = demo_config(18_473).replace("[exchange]\n", "[exchange]\nhost = '127.0.0.1'\n")
    return "\n".join(advise(structure_config(parse_document(text.replace(old, new), "c.toml"))))


def test_the_demo_needs_no_advice() -> None:
    assert _advice() == ""


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("port = 18473", "port = 18474", "exchange.port is 18474, but no endpoint's url"),
        ('"orderUpdates", ', "", "no endpoint has the stream 'orderUpdates'"),
        (
            'instruments = ["hyperliquid.BTC"]\nparams = { spread',
            'instruments = ["hyperliquid.SOL"]\nparams = { spread',
            "strategy maker: no endpoint has a stream of hyperliquid.SOL",
        ),
        (
            'api_url = "http://127.0.0.1:18473"',
            "",
            "instruments will come from Hyperliquid's mainnet",
        ),
        (
            'url = "ws://127.0.0.1:18473/ws"\nstreams = ["orderUpdates"',
            'url = "wss://api.hyperliquid-testnet.xyz/ws"\nstreams = ["orderUpdates"',
            "api.hyperliquid-testnet.xyz/ws is testnet, but venues.hyperliquid.network",
        ),
    ],
)
def test_what_does_not_fit_together_is_told(old: str, new: str, told: str) -> None:
    assert told in _advice(old, new)
    assert _advice(old, new).count("\n") == 0


def test_an_empty_file_receives_nothing() -> None:
    assert advise(structure_config(parse_document("", "c.toml"))) == (
        "there is no [[ws_endpoints]]: nothing will be received",
    )
