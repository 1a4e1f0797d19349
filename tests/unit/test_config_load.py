"""Loading the file: every kind of bad TOML gives a located line, and all of them at once."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from zq_daemon.config.load import (
    MAX_BYTES,
    control_socket,
    load_config,
    parse_document,
    structure_config,
)
from zq_daemon.config.rules import VENUES
from zq_daemon.config.schema import DaemonConfig
from zq_daemon.config.source import MAX_PROBLEMS
from zq_daemon.config.streams import STREAMS
from zq_daemon.errors import ConfigError

ENDPOINT = '[[ws_endpoints]]\nurl = "ws://h"\nstreams = ["trades:BTC"]\n'
STRATEGY = '[[strategies]]\nname = "s"\nuse = "m:C"\ninstruments = ["hyperliquid.BTC"]\n'


def config_of(text: str) -> DaemonConfig:
    return structure_config(parse_document(text, "c.toml"))


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config_of(text)
    return str(caught.value).splitlines()


def problem(text: str) -> str:
    (line,) = problems(text)
    return line


def test_an_empty_file_is_the_defaults() -> None:
    assert config_of("") == DaemonConfig()


def test_values_are_structured() -> None:
    config = config_of(
        "tick_interval_ms = 250\n"
        + ENDPOINT
        + STRATEGY
        + 'bars = ["1m"]\nparams = { fast = 3, edge = 0.1 }\n'
        + '[risk]\nmax_leverage = 2.50\nmax_order_notional = 7\nmax_daily_loss = "12.5"\n'
        + 'max_order_quantity = { "hyperliquid.BTC" = 0.1 }\n'
    )
    assert config.tick_interval_ms == 250
    assert config.ws_endpoints[0].streams == ("trades:BTC",)
    assert config.strategies[0].params == {"fast": 3, "edge": Decimal("0.1")}
    assert str(config.risk.max_leverage) == "2.50"
    assert config.risk.max_order_notional == Decimal(7)
    assert config.risk.max_daily_loss == Decimal("12.5")
    assert config.risk.max_order_quantity == {"hyperliquid.BTC": Decimal("0.1")}


def test_off_and_the_empty_string_unset() -> None:
    config = config_of(
        'control_socket = ""\n[risk]\nmax_leverage = "off"\nmax_open_orders = "off"\n'
        '[exchange]\nreplay = ""\nseed = "off"\n'
    )
    assert config.control_socket is None
    assert config.risk.max_leverage is None
    assert config.risk.max_open_orders is None
    assert config.exchange.replay is None
    assert config.exchange.seed is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("bogus = 1", "c.toml:1: bogus: unknown key; known here: state_dir, "),
        (
            "\n[risk]\nmax_order_notinal = 5",
            "c.toml:3: risk.max_order_notinal: unknown key; did you mean 'max_order_notional'?",
        ),
        ("auto_reconnect = 1", "c.toml:1: auto_reconnect: expected true or false, got 1"),
        (
            "tick_interval_ms = true",
            'c.toml:1: tick_interval_ms: expected a whole number (or "off"), got true',
        ),
        (
            "connect_timeout_ms = 1.5",
            "c.toml:1: connect_timeout_ms: expected a whole number, got 1.5",
        ),
        (
            "connect_timeout_ms = 1979-05-27",
            "c.toml:1: connect_timeout_ms: expected a whole number, got 1979-05-27",
        ),
        ("state_dir = 5", "c.toml:1: state_dir: expected a string in quotes, got 5"),
        ('state_dir = ""', "c.toml:1: state_dir: expected a path, got the string ''"),
        (
            "state_dir = [1]",
            "c.toml:1: state_dir: expected a string in quotes, got an array",
        ),
        ("risk = 5", "c.toml:1: risk: expected a table, got 5"),
        ("strategies = {}", "c.toml:1: strategies: expected an array, got a table"),
        ("strategies = [5]", "c.toml:1: strategies[0]: expected a table, got 5"),
        ("[risk]\nmax_leverage = false", 'risk.max_leverage: expected a number (or "off"), got f'),
        ("[risk]\nmax_leverage = 0", "risk.max_leverage: expected more than 0, got 0"),
        ("[risk]\nmax_leverage = -1.5", "risk.max_leverage: expected more than 0, got -1.5"),
        ("[risk]\nmax_leverage = nan", "expected a finite number within 1e-30 and 1e30 (or"),
        ("[risk]\nmax_leverage = inf", "expected a finite number within"),
        ("[risk]\nmax_leverage = 1e31", "expected a finite number within"),
        ("[risk]\nmax_leverage = 1e99999999999999999999", "expected a finite number within"),
        ('[risk]\nmax_leverage = "3x"', "expected a number (or"),
        ("[risk]\nmax_open_orders = 0", "expected 1 to 100000000, got 0"),
        ("[risk]\nprice_collar_bps = 10000", "expected 1 to 9999, got 10000"),
        ('[risk]\ntrading_state = "x"', "expected one of 'active', 'reducing', 'halted', got "),
        (
            "[risk]\nmax_order_quantity = { BTC = 1 }",
            "c.toml:2: risk.max_order_quantity.BTC: instrument 'BTC': expected '<venue>.<symbol>'",
        ),
        (
            '[risk.max_position_quantity]\n"hyperliquid.BTC" = 0',
            'c.toml:2: risk.max_position_quantity."hyperliquid.BTC": expected more than 0, got 0',
        ),
        (
            '[[ws_endpoints]]\nstreams = ["trades:BTC"]',
            "c.toml:1: ws_endpoints[0].url: required key is missing",
        ),
        (ENDPOINT.replace("ws://h", "http://h"), "c.toml:2: ws_endpoints[0].url: expected a URL"),
        (ENDPOINT.replace("ws://h", "ws://"), "names a host, got the string 'ws://'"),
        (ENDPOINT.replace("ws://h", "ws://h:0"), "ws_endpoints[0].url: expected a URL"),
        (ENDPOINT.replace("ws://h", "ws://h:99999"), "url: not a URL: Port out of range"),
        (ENDPOINT.replace("ws://h", "ws://[::1"), "url: not a URL: "),
        (ENDPOINT.replace("ws://h", "ws://u:p@h"), "takes neither user, password nor fragment"),
        (ENDPOINT.replace("ws://h", "ws://h#f"), "takes neither user, password nor fragment"),
        (
            ENDPOINT.replace("ws://h", "ws://exa..com"),
            "c.toml:2: ws_endpoints[0].url: host 'exa..c",
        ),
        (ENDPOINT.replace("//h", f"//{'a' * 64}.com"), "each part between dots needs 1 to 63 char"),
        (ENDPOINT.replace("//h", "//" + "\u00fc" * 60), "each part between dots needs 1 to 63"),
        (ENDPOINT.replace("//h", "//" + "a." * 128 + "com"), "a.com': longer than 253"),
        ('[exchange]\nhost = "a..b"', "c.toml:2: exchange.host: host 'a..b': each part"),
        (ENDPOINT.replace("trades:BTC", "a b"), "streams[0]: expected a stream, e.g. "),
        (ENDPOINT + "max_streams = 0\n", "max_streams: expected 1 to 1000, "),
        (ENDPOINT + 'stale_ms = { "trades:BTC" = -1 }\n', 'stale_ms."trades:BTC": expected 0 to '),
        (ENDPOINT + 'stale_ms = { "bbo:BTC" = 1 }\n', "not one of the endpoint's streams"),
        (
            ENDPOINT.replace("trades:BTC", "candle:BTC"),
            "streams[0]: stream 'candle:BTC': needs a symbol and an interval",
        ),
        (
            ENDPOINT.replace('"trades:BTC"', '"bbo:B", "bbo:B"'),
            "streams: expected each item once, ",
        ),
        (ENDPOINT.replace('"trades:BTC"', ""), "streams: needs at least one item"),
        (
            ENDPOINT.replace("trades:", "tradez:"),
            "c.toml:3: ws_endpoints[0].streams[0]: stream 'tradez:BTC': hyperliquid has activeA",
        ),
        (ENDPOINT.replace("trades:BTC", "bbo"), "streams[0]: stream 'bbo': needs a symbol, e.g. '"),
        (
            ENDPOINT.replace("trades", "userFills"),
            "[0]: stream 'userFills:BTC': userFills takes no",
        ),
        (ENDPOINT + 'venue = "nasdaq"', "venue: expected one of 'hyperliquid', got "),
        (ENDPOINT + 'name = "a.b"', "name: expected a name of letters, digits"),
        (STRATEGY.replace('"m:C"', '"m.C"'), "strategies[0].use: expected module:Class"),
        (STRATEGY.replace("hyperliquid.BTC", "BTC"), "instruments[0]: instrument 'BTC': expected"),
        (STRATEGY + 'on_fault = "pray"', "on_fault: expected one of 'cancel', 'hold', 'flatten', "),
        (STRATEGY.replace("hyperliquid.", "nyse."), "instruments[0]: expected one of 'hyperliq"),
        (STRATEGY.replace('"s"', '"daemon"'), "c.toml:2: strategies[0].name: 'daemon' is taken: d"),
        (STRATEGY.replace('"s"', '"external"'), "'external' is taken: daemon, execution, external"),
        (STRATEGY + 'bars = ["1m", "1y"]', "c.toml:5: strategies[0].bars[1]: bar '1y': expected"),
        (STRATEGY + "path = 5", 'strategies[0].path: expected a string in quotes (or ""), got 5'),
        ("[limits]\nbus_queue = 0", "limits.bus_queue: expected 1 to"),
        ("[limits]\njournal_segment_bytes = 4096", "expected 2097152 to 268435456, got 4096"),
        ("[limits]\njournal_pending_bytes = 1", "expected 65536 to 268435456, got 1"),
        ("[staleness]\nbook_ms = -1", "staleness.book_ms: expected 0 to"),
        ("reconcile_interval_ms = 0", "c.toml:1: reconcile_interval_ms: expected 1 to"),
        ("reconcile_fills_interval_ms = 0", "reconcile_fills_interval_ms: expected 1 to"),
        ("housekeeping_interval_ms = 9", "housekeeping_interval_ms: expected 10 to 60000, got 9"),
        ("not_found_span_ms = -1", "not_found_span_ms: expected 0 to"),
        ("position_tolerance = -0.5", "c.toml:1: position_tolerance: expected 0 to"),
        ('position_tolerance = "nan"', "position_tolerance: "),
        ('on_position_difference = "stop"', "on_position_difference: expected "),
        ("[exchange]\nport = 65536", "exchange.port: expected 1 to 65535, got 65536"),
        ("[exchange]\nspeed = -1", "exchange.speed: expected 0 or more, got -1"),
        ('[exchange]\nhost = "a b"', "exchange.host: expected a host name"),
        ('[exchange]\nreplay = "f"\nseed = 1', "c.toml:3: exchange.seed: a market is seeded or"),
        (
            '[exchange]\nreplay = "f"\nfollow = "http://h"',
            "exchange.replay: a market is replayed or",
        ),
        ('[exchange]\nfollow = "h"', "exchange.follow: expected a URL that begins with http:// or"),
        ('[exchange]\nqueue = "last"', "expected one of 'front', 'back', 'proportional'"),
        ("[exchange]\norder_latency_ms = 60001", "order_latency_ms: expected 0 to 60000"),
        ("reconnect_max_ms = 5", "c.toml:1: reconnect_max_ms: reconnect_max_ms (5) is less than "),
        ("reconnect_base_ms = 99000", "c.toml:1: reconnect_base_ms: reconnect_max_ms (60000) is"),
        ('[log]\nlevel = "loud"', "log.level: expected one of 'debug', 'info', 'warning', 'error'"),
        ('[venues.hyperliquid]\naccount = "0x12"', "account: expected an address: 0x and 40 hex"),
        ('[venues.hyperliquid]\napi_url = "ftp://h"', "begins with http:// or https://"),
        ("[venues.kraken]", "c.toml:1: venues.kraken: unknown key; known here: hyperliquid"),
    ],
)
def test_one_problem_is_told_with_its_line(text: str, told: str) -> None:
    assert told in problem(text)


def test_all_problems_are_told_at_once_in_the_order_of_the_file() -> None:
    text = (
        "tick_interval_ms = 0\n" + ENDPOINT + 'name = "a"\n' + ENDPOINT + 'name = "a"\n'
        "[risk]\nmax_leverage = 0\nmax_daily = 5\n[log]\nlevel = 1\n"
    )
    assert [line.split(": ")[:2] for line in problems(text)] == [
        ["c.toml:1", "tick_interval_ms"],
        ["c.toml:9", "ws_endpoints[1].name"],
        ["c.toml:11", "risk.max_leverage"],
        ["c.toml:12", "risk.max_daily"],
        ["c.toml:14", "log.level"],
    ]


def test_streams_and_reserved_names_are_told_with_the_rest() -> None:
    text = (
        '[[ws_endpoints]]\nurl = "ws://h..i"\nstreams = ["tradez:BTC", "bbo:BTC", "l2Book"]\n'
        + STRATEGY.replace('"s"', '"execution"')
        + "[risk]\nmax_leverage = 0\n"
    )
    assert [line.split(": ")[:2] for line in problems(text)] == [
        ["c.toml:2", "ws_endpoints[0].url"],
        ["c.toml:3", "ws_endpoints[0].streams[0]"],
        ["c.toml:3", "ws_endpoints[0].streams[2]"],
        ["c.toml:5", "strategies[0].name"],
        ["c.toml:9", "risk.max_leverage"],
    ]


@pytest.mark.parametrize(
    ("streams", "others", "told"),
    [
        ('"l2Book:B", "l2Book:B?nSigFigs=4"', '"bbo:B"', "[0].streams[1]: stream 'l2Book:B?nSig"),
        ('"l2Book:B?nSigFigs=4"', '"l2Book:B"', "[1].streams[0]: stream 'l2Book:B': differs by"),
        ('"l2Book:B?mantissa=2"', '"bbo:B"', "mantissa=2': mantissa needs nSigFigs=5"),
        ('"l2Book:B?nSigFigs=4&mantissa=2"', '"bbo:B"', "mantissa needs nSigFigs=5"),
    ],
)
def test_a_book_is_asked_for_in_one_way_that_there_is(streams: str, others: str, told: str) -> None:
    text = "".join(
        f'[[ws_endpoints]]\nurl = "ws://h"\nstreams = [{each}]\n' for each in (streams, others)
    )
    assert told in problem(text)


def test_the_same_book_may_be_asked_for_twice() -> None:
    one = '[[ws_endpoints]]\nurl = "ws://h"\nstreams = ["l2Book:B?nSigFigs=5&mantissa=2"]\n'
    assert len(config_of(one + one).ws_endpoints) == 2


@pytest.mark.parametrize(
    "host", ["[::1]:80", "127.0.0.1", "localhost.", "\u00fcber.example", "a_b.c"]
)
def test_hosts_that_may_be_there(host: str) -> None:
    config = config_of(ENDPOINT.replace("//h", f"//{host}"))
    assert config.ws_endpoints[0].url == f"ws://{host}"


def test_each_venue_has_its_streams() -> None:
    assert tuple(STREAMS) == VENUES


def test_repeated_strategy_names_are_refused() -> None:
    assert problem(STRATEGY + STRATEGY).startswith(
        "c.toml:6: strategies[1].name: the name is already strategies[0]'s"
    )


def test_a_flood_of_problems_is_cut() -> None:
    lines = problems("".join(f"key{number} = 1\n" for number in range(500)))
    assert len(lines) == MAX_PROBLEMS + 1
    assert lines[-1] == "c.toml: and 1 more problems"


@pytest.mark.parametrize(
    "text",
    [
        "[venues.hyperliquid]\nprivate_key = '5ecret'",
        "[venues.hyperliquid]\nkey_file = ['5ecret']",
        "[venues.hyperliquid]\nkey_credential = '5ecret/x'",
        "[venues.hyperliquid]\naccount = '" + "5ec4e7" * 11 + "'",
        "[[ws_endpoints]]\nurl = 'http://me:5ecret@h'\nstreams = ['bbo:B']",
        "[log]\nlevel = { password = '5ecret' }",
    ],
)
def test_what_may_be_a_secret_is_never_shown(text: str) -> None:
    told = problem(text)
    assert "5ec" not in told
    assert "c.toml:2" in told


def test_secrets_in_the_file_are_told_to_go_elsewhere() -> None:
    told = problem("[venues.hyperliquid]\nsecret = 'x'")
    assert told.endswith(
        "venues.hyperliquid.secret: unknown key; secrets never belong in this file"
    )


def test_control_characters_reach_no_terminal() -> None:
    told = problems('"\\u001b[31m\\u009b" = 1\nlog = "\\u001b[2J"')
    assert len(told) == 2
    assert "".join(told).isprintable()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a = \n", "c.toml:1:5: not valid TOML: Invalid value"),
        ("x = 1\nx = 2\n", "c.toml:2:6: not valid TOML: Cannot overwrite a value"),
        ("[a]\n[a]\n", "c.toml:2:3: not valid TOML: Cannot declare"),
        ("a = 'b", "c.toml: not valid TOML"),
        ("a = " + "[" * 5000, "c.toml: arrays or tables are nested too deeply"),
        ("a = " + "9" * 5000, "c.toml: not valid TOML: Exceeds the limit"),
        ("= 1", "c.toml:1:1: not valid TOML"),
    ],
)
def test_broken_toml_is_told_with_line_and_column(text: str, told: str) -> None:
    assert problem(text).startswith(told)


def test_windows_line_ends_and_a_byte_order_mark_are_taken(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(b"\xef\xbb\xbfauto_reconnect = true\r\n\r\nbogus = 1\r\n")
    with pytest.raises(ConfigError, match=r"c\.toml:3: bogus: unknown key"):
        load_config(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"# \xff\n", ":1: not UTF-8 text"),
        (b"\n\n# \xff\n", ":3: not UTF-8 text"),
        (b"#" * (MAX_BYTES + 1), ": larger than 1 MiB"),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}{told}")


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file; copy config"):
        load_config(tmp_path / "none.toml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(tmp_path)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "tape.gz").touch()
    path = tmp_path / "c.toml"
    path.write_text(
        'state_dir = "state"\n'
        + STRATEGY
        + 'path = "mine"\n[exchange]\nreplay = "tape.gz"\n'
        + '[venues.hyperliquid]\nkey_file = "/abs/key"\n'
    )
    config = load_config(path)
    assert config.state_dir == str(tmp_path / "state")
    assert config.strategies[0].path == str(tmp_path / "mine")
    assert config.exchange.replay == str(tmp_path / "tape.gz")
    assert config.venues.hyperliquid.key_file == "/abs/key"
    assert control_socket(config) == tmp_path / "state" / "control.sock"


def test_the_control_socket_can_be_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('control_socket = "here.sock"\n')
    assert control_socket(load_config(path)) == tmp_path / "here.sock"


def test_paths_that_are_not_there_are_told(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(STRATEGY + 'path = "gone"\n[exchange]\nreplay = "gone.gz"\n')
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).splitlines() == [
        f"{path}:5: strategies[0].path: no such folder: {tmp_path / 'gone'}",
        f"{path}:7: exchange.replay: no such file: {tmp_path / 'gone.gz'}",
    ]
