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
        (
            "enabled = true\nport = 18473\nseed = 7",
            "follow = 'https://api.hyperliquid.xyz'",
            "exchange.follow is set, but exchange.enabled is not: nothing is followed",
        ),
        (
            "seed = 7",
            "follow = 'http://localhost:18473'",
            "the embedded exchange cannot follow itself",
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


def test_more_than_a_venue_takes_from_one_host_is_told() -> None:
    url = 'url = "ws://127.0.0.1:18473/ws"\nstreams = ['
    many = ", ".join(f'"bbo:C{number}"' for number in range(1_001))
    live = f'url = "wss://api.hyperliquid.xyz/ws"\nmax_streams = 90\nstreams = [{many}, '
    told = _advice(url, live)
    assert "2008 streams from api.hyperliquid.xyz: it takes 1000" in told
    assert "24 connections to api.hyperliquid.xyz: it takes 10 from one host" in told


def test_a_stream_with_interval_or_options_is_one_of_its_instrument() -> None:
    assert _advice('"l2Book:BTC"', '"l2Book:BTC?nSigFigs=4"') == ""
    streams = '"l2Book:BTC", "trades:BTC", "bbo:BTC", "activeAssetCtx:BTC"'
    assert _advice(streams, '"candle:BTC:1m"') == ""


def test_paper_trading_that_would_send_real_orders_is_told() -> None:
    url = 'url = "ws://127.0.0.1:18473/ws"\nstreams = ["orderUpdates"'
    text = demo_config(18_473).replace(url, url.replace("ws://127.0.0.1:18473", "wss://api.venue"))
    text = text.replace("enabled = true", "enabled = true\nfollow = 'https://api.venue'")
    (told,) = advise(structure_config(parse_document(text.replace("seed = 7", ""), "c.toml")))
    assert told.endswith("wss://api.venue/ws is not the embedded exchange: orders there are real")
