"""The operator's commands: what they ask, what they print and how they end, answer by answer."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from rich.console import Console, RenderableType

from zq_daemon.cli import operator
from zq_daemon.cli.columns import rounded
from zq_daemon.cli.listings import render_orders, render_positions, render_reconciliation
from zq_daemon.cli.main import run_command
from zq_daemon.cli.tables import render_status
from zq_daemon.control import cancel, orders
from zq_daemon.control.arguments import BadRequest
from zq_daemon.control.server import Handler, serve_control
from zq_daemon.errors import ControlError, StrategyError
from zq_daemon.exit_codes import ExitCode

Asked = list[Mapping[str, Any]]
CLOID = "0x" + "12" * 16


@contextmanager
def answering(path: Path, command: str, answer: Any) -> Iterator[Asked]:
    """A control socket in a thread (the command runs a Trio of its own); what it was asked."""
    ready = threading.Event()
    ended: list[Callable[[], None]] = []
    asked: Asked = []

    def handle(request: Mapping[str, Any]) -> Any:
        asked.append({name: request[name] for name in request if name != "command"})
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def serve() -> None:
        handlers: Mapping[str, Handler] = {command: handle}
        async with trio.open_nursery() as nursery:
            await nursery.start(partial(serve_control, path, handlers, 4))
            token = trio.lowlevel.current_trio_token()
            ended.append(partial(token.run_sync_soon, nursery.cancel_scope.cancel))
            ready.set()

    thread = threading.Thread(target=partial(trio.run, serve))
    thread.start()
    assert ready.wait(10)
    try:
        yield asked
    finally:
        ended[0]()
        thread.join()


class Line:
    """The command line at a daemon that gives one answer."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path = folder / "s"
        self.capsys = capsys
        self.asked: Asked = []
        self.out = self.err = ""

    def run(self, *arguments: str, answer: Any) -> int:
        with answering(self.path, arguments[0], answer) as self.asked:
            code = run_command([*arguments, "--socket", str(self.path)])
        self.out, self.err = self.capsys.readouterr()
        return code


@pytest.fixture
def line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Line:
    return Line(tmp_path, capsys)


def drawn(picture: RenderableType, width: int = 120) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(picture)
    return out.getvalue()


def cancelled(count: int, unverified: int = 0, otherwise: int = 0, **more: Any) -> dict[str, Any]:
    told = {"cancelled": count, "unverified": unverified, "otherwise": otherwise}
    return {"asked": count + unverified + otherwise, "unverified_orders": [], **told, **more}


def test_verified_cancels_are_counted(line: Line) -> None:
    assert line.run("cancel-all", answer=cancelled(12)) == ExitCode.OK
    assert line.out == "12 cancelled, 0 unverified\n"
    assert line.asked == [{"wait_s": 10.0}]


def test_unverified_cancels_are_named_and_have_their_exit_code(line: Line) -> None:
    answer = cancelled(3, 2, 1, unverified_orders=[CLOID, "a\x1b[2J"])
    assert line.run("cancel-all", answer=answer) == ExitCode.UNVERIFIED
    assert line.out.splitlines() == [
        "3 cancelled, 2 unverified, 1 ended otherwise (filled, refused or expired)",
        f"unverified: {CLOID}",
        "unverified: a\\x1b[2J",
    ]


def test_not_every_unverified_cancel_is_named(line: Line) -> None:
    answer = cancelled(0, 25, unverified_orders=[CLOID] * 25)
    assert line.run("cancel-all", answer=answer) == ExitCode.UNVERIFIED
    assert line.out.splitlines()[-1] == "and 5 more: zq-daemon orders"


def test_cancels_are_narrowed_and_waited_for_as_asked(line: Line) -> None:
    narrowed = ("--strategy", "maker", "--instrument", "hyperliquid.BTC")
    assert line.run("cancel-all", *narrowed, "--timeout", "2.5", answer=cancelled(1)) == ExitCode.OK
    assert line.asked == [{"strategy": "maker", "instrument": "hyperliquid.BTC", "wait_s": 2.5}]


def test_cancels_are_not_waited_for(line: Line) -> None:
    assert line.run("cancel-all", "--no-wait", answer={"asked": 4}) == ExitCode.OK
    assert line.out.startswith("4 to be cancelled")
    assert line.asked == [{}]


@pytest.mark.parametrize(
    "answer",
    [None, [], "done", {}, {"cancelled": 1}, {"cancelled": 1, "unverified": "0", "otherwise": 0}],
)
def test_an_answer_that_says_nothing_is_no_success(line: Line, answer: Any) -> None:
    for arguments in (("cancel-all",), ("cancel-all", "--no-wait")):
        assert line.run(*arguments, answer=answer) == ExitCode.UNAVAILABLE
        assert "did not say what became of the orders" in line.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["cancel-all", "--timeout", "-1"],
        ["cancel-all", "--timeout", "3601"],
        ["cancel-all", "--timeout", "soon"],
        ["cancel-all", "maker"],
        ["orders", "--limit", "0"],
        ["orders", "--limit", "10001"],
        ["orders", "--all"],
        ["positions", "--closed"],
        ["resume"],
        ["halt", "two", "words"],
    ],
)
def test_a_wrong_command_line_is_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(arguments) == ExitCode.USAGE
    assert "Error: " in capsys.readouterr().err


def test_limits_are_those_of_the_daemon() -> None:
    assert operator._MOST_S == cancel.MOST_S
    assert operator._MOST_ORDERS == orders.MOST


@pytest.mark.parametrize("command", ["stop", "halt", "activate"])
def test_a_reason_is_passed_on(line: Line, command: str) -> None:
    assert line.run(command, "maintenance at noon", answer="so be it") == ExitCode.OK
    assert line.asked == [{"reason": "maintenance at noon"}]
    assert line.out == "so be it\n"
    assert line.run(command, answer="so be it") == ExitCode.OK
    assert line.asked == [{}]


def test_a_strategy_is_resumed(line: Line) -> None:
    assert line.run("resume", "maker", answer="maker is running") == ExitCode.OK
    assert line.asked == [{"strategy": "maker"}]
    assert line.out == "maker is running\n"


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (BadRequest("unknown strategy 'x'; there are: a"), ExitCode.USAGE, "there are: a"),
        (StrategyError("strategy x is faulted"), ExitCode.UNAVAILABLE, "x is faulted"),
        (ControlError("still starting: try again"), ExitCode.UNAVAILABLE, "still starting"),
    ],
)
def test_a_refusal_has_its_exit_code(
    line: Line, error: Exception, code: ExitCode, told: str
) -> None:
    for command in (["resume", "x"], ["cancel-all"], ["orders"], ["positions"], ["halt"]):
        assert line.run(*command, answer=error) == code
        assert told in line.err
        assert line.out == ""


def test_without_a_daemon_every_command_is_unavailable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["resume", "x"], ["cancel-all"], ["orders"], ["positions"], ["halt"]):
        code = run_command([*command, "--socket", str(tmp_path / "none")])
        assert code == ExitCode.UNAVAILABLE
        assert "no such socket" in capsys.readouterr().err


@pytest.mark.parametrize("command", [one.name for one in operator.COMMANDS])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command([command, "--help"]) == ExitCode.OK
    out = capsys.readouterr().out
    assert f"zq-daemon {command} [OPTIONS]" in out
    assert "--socket" in out
    assert run_command(["--help"]) == ExitCode.OK
    assert f"  {command} " in capsys.readouterr().out


ORDER = {
    "client_order_id": CLOID,
    "strategy": "maker",
    "instrument": "hyperliquid.ETH",
    "side": "sell",
    "type": "limit",
    "time_in_force": "gtc",
    "post_only": True,
    "reduce_only": False,
    "price": "3201.7",
    "quantity": "0.02",
    "filled": "0.01",
    "status": "partially_filled",
    "pending": "cancel",
    "age_s": 75,
    "in_flight_s": 3.25,
    "why": "cancel asked for, no outcome known",
    "venue_order_id": "1795269977916088",
}


def test_what_orders_to_list_is_asked(line: Line) -> None:
    answer = {"kind": "closed", "total": 0, "orders": []}
    arguments = ("--closed", "--strategy", "maker", "--instrument", "x.Y", "--limit", "7")
    assert line.run("orders", *arguments, answer=answer) == ExitCode.OK
    assert line.asked == [{"kind": "closed", "strategy": "maker", "instrument": "x.Y", "limit": 7}]
    assert line.out == "no closed orders\n"
    for flag, kind in (
        ((), "live"),
        (("--open",), "open"),
        (("--in-flight",), "in_flight"),
        (("--unknown",), "unknown"),
    ):
        line.run("orders", *flag, answer=answer)
        assert line.asked == [{"kind": kind, "limit": 1_000}]


def test_orders_are_drawn_or_printed_as_they_came(line: Line) -> None:
    answer = {"kind": "live", "total": 1, "orders": [ORDER]}
    assert line.run("orders", answer=answer) == ExitCode.OK
    assert "1 live order\n" in line.out
    assert line.run("orders", "--json", answer=answer) == ExitCode.OK
    assert json.loads(line.out) == answer


def test_everything_about_an_order_is_drawn() -> None:
    text = drawn(render_orders({"kind": "in_flight", "total": 1, "orders": [ORDER]}))
    assert "1 in flight order\n" in text
    assert [" ".join(line.split()) for line in text.splitlines()[2:]] == [
        "strategy instrument side type price quantity filled status",
        "maker hyperliquid.ETH sell limit post 3201.7 0.02 0.01 partially_filled +cancel",
        f"{CLOID} venue's 1795269977916088 1m15s old",
        "in flight for 3.2s: cancel asked for, no outcome known",
    ]


def test_a_trigger_and_what_it_is_an_exit_of_are_drawn() -> None:
    calm = {**ORDER, "in_flight_s": None, "why": "", "type": "stop_market"}
    text = drawn(render_orders({"orders": [{**calm, "trigger_price": "3100"}]}))
    assert text.splitlines()[-1].strip() == "triggers at 3100"
    text = drawn(render_orders({"orders": [{**calm, "trigger_price": "3100", "entry": "0x07"}]}))
    assert text.splitlines()[-1].strip() == "triggers at 3100, an exit of 0x07"


def test_an_order_at_rest_has_no_third_line() -> None:
    calm = {**ORDER, "pending": None, "in_flight_s": None, "why": "", "venue_order_id": None}
    text = drawn(render_orders({"kind": "live", "total": 1, "orders": [calm]}))
    assert len(text.splitlines()) == 5
    refused = drawn(render_orders({"orders": [{**calm, "why": "too \x1b[31m small"}]}))
    assert refused.splitlines()[-1].strip() == "too \\x1b[31m small"


@pytest.mark.parametrize("width", [30, 80, 200])
def test_no_amount_is_cut_however_narrow_the_terminal(width: int) -> None:
    row = {"instrument": "hyperliquid.ETH", "quantity": "123456.78901", "net_pnl": "-98765.4321"}
    part = {"rows": [row], "total": 1, "sums": {"net_pnl": "-98765.4321"}}
    text = drawn(render_orders({"kind": "live", "total": 1, "orders": [ORDER]}), width)
    for amount in ("3201.7", "0.02", "0.01"):
        assert amount in text
    text = drawn(render_positions({"accounts": [{"account": "a", **part}]}), width)
    for amount in ("123456.78901", "-98765.4321"):
        assert amount in text
    assert "…" not in text


def test_a_list_that_is_cut_says_so() -> None:
    text = drawn(render_orders({"kind": "closed", "total": 5_000, "orders": [ORDER, ORDER]}))
    assert "5000 closed orders, the newest 2 shown: narrow it by --strategy" in text
    rows = [{"strategy": "a", "quantity": "1"}]
    text = drawn(render_positions({"strategies": {"rows": rows, "total": 9, "sums": {}}}))
    assert "Strategies (the first 1 of 9, flat ones last; the sums are of all)" in text


POSITION = {
    "instrument": "hyperliquid.BTC",
    "quantity": "0.001",
    "average_entry_price": "63990",
    "mark": "63985",
    "unrealized_pnl": "-0.005",
    "realized_pnl": "-0.007",
    "fees": "0.086383",
    "funding": "0",
    "net_pnl": "-0.098383",
}
SUMS = {name: POSITION[name] for name in POSITION if name.endswith(("pnl", "fees", "funding"))}


def test_positions_are_drawn_with_their_sums(line: Line) -> None:
    part = {"rows": [POSITION], "total": 1, "sums": SUMS}
    answer = {
        "accounts": [{"account": "hyperliquid.0x66", **part}],
        "strategies": {**part, "rows": [{"strategy": "cross", **POSITION}]},
    }
    assert line.run("positions", answer=answer) == ExitCode.OK
    lines = [one.split() for one in line.out.splitlines()]
    assert lines[1] == ["Account", "hyperliquid.0x66"]
    held = [POSITION[name] for name in ("instrument", "quantity", "average_entry_price", "mark")]
    parts = ["unrealised", "-0.005", "realised", "-0.007", "fees", "0.086383", "funding", "0"]
    assert lines[3:7] == [
        [*held, POSITION["net_pnl"]],
        parts,
        ["total", SUMS["net_pnl"]],
        parts,
    ]
    assert lines[8] == ["Strategies"]
    assert lines[10:12] == [["cross", *held, POSITION["net_pnl"]], parts]
    assert lines[12:] == [["total", SUMS["net_pnl"]], parts]
    assert line.run("positions", "--strategy", "cross", "--json", answer=answer) == ExitCode.OK
    assert line.asked == [{"strategy": "cross"}]
    assert json.loads(line.out) == answer


@pytest.mark.parametrize(
    "answer",
    [
        None,
        5,
        {},
        {"orders": 5, "kind": [], "accounts": {}, "strategies": []},
        {"orders": [{}, 3], "total": "many", "accounts": [{}, 3], "strategies": {"rows": [{}]}},
        {"orders": [{"status": [], "age_s": "old", "in_flight_s": {}, "why": 5}]},
        {"accounts": [{"account": 5, "rows": [{"quantity": [1]}], "sums": 5, "total": []}]},
    ],
)
def test_odd_answers_are_drawn_as_well_as_they_can_be(answer: Any) -> None:
    assert drawn(render_orders(answer))
    assert drawn(render_positions(answer))
    assert drawn(render_reconciliation(answer))


DOUBT = {
    "since_s": 3.25,
    "why": "timed out",
    "asked": 2,
    "next_s": 1.0,
    "valid_s": 11.5,
    "negatives": 1,
    "negatives_needed": 3,
    "missing_fills": "0.5",
    "histories_without": 1,
    "awaited": "an answer of the venue",
}


def test_an_order_in_doubt_says_since_when_and_why() -> None:
    row = {**ORDER, "doubt": DOUBT, "synthetic": "0.25"}
    text = drawn(render_orders({"kind": "unknown", "total": 1, "orders": [row]}))
    lines = [" ".join(each.split()) for each in text.splitlines()]
    assert "1 unknown order" in lines
    assert "0.25 filled as the venue says, which gives no fill" in lines
    assert "in doubt for 3.2s: timed out" in lines
    assert "asked 2 times, again in 1.0s, valid for 11.5s more" in lines
    assert "awaited: an answer of the venue; missing: 0.5" in lines
    assert "in flight for" not in text


DIFFERENCE = {
    "account": "0xacc",
    "kind": "ended order",
    "instrument": "hyperliquid.BTC",
    "order": CLOID,
    "ours": "accepted",
    "venue": "canceled: by hand",
    "action": "take it as ended",
}
DRY = {"dry_run": True, "orders_asked_about": 3, "fills_complete": True, "total": 0}


def test_differences_are_asked_for_and_drawn(line: Line) -> None:
    none = {**DRY, "differences": []}
    assert line.run("reconcile", "--dry-run", answer=none) == ExitCode.OK
    assert line.asked == [{"dry_run": True, "wait_s": 60}]
    assert "no differences (3 live orders asked about)\nnothing was changed" in line.out
    some = {**DRY, "total": 1, "differences": [DIFFERENCE], "fills_complete": False}
    line.run("reconcile", "--dry-run", "--timeout", "5", answer=some)
    assert line.asked == [{"dry_run": True, "wait_s": 5}]
    lines = [" ".join(each.split()) for each in line.out.splitlines()]
    assert "1 difference (3 live orders asked about)" in lines
    assert "ended order hyperliquid.BTC take it as ended" in lines
    assert "ours: accepted; the venue's: canceled: by hand" in lines
    assert CLOID in lines
    assert "the venue does not have all fills any more" in lines
    assert line.run("reconcile", "--json", answer=some) == ExitCode.OK
    assert line.asked == [{"dry_run": False, "wait_s": 60}]
    assert json.loads(line.out) == some


def test_what_was_done_is_drawn() -> None:
    done = {
        "asked": 3,
        "resolved": 1,
        "unresolved": 0,
        "fills": 2,
        "adjusted": ["hyperliquid.BTC: ours 0, venue's 1"],
        "complete": True,
    }
    answer = {**DRY, "dry_run": False, "total": 2, "differences": [DIFFERENCE], "done": done}
    text = drawn(render_reconciliation({**answer, "halted_accounts": ["0xacc"]}))
    assert "2 differences (3 live orders asked about), the first 1 shown" in text
    assert "done: 3 orders asked about, 1 ended, 0 still in doubt, 2 fills booked" in text
    assert "taken over from the venue: hyperliquid.BTC: ours 0, venue's 1" in text
    assert "still halted: 0xacc" in text
    assert "dry run" not in text


def test_a_halted_account_is_in_the_headline() -> None:
    status = {"daemon": {}, "execution": {"halted_accounts": ["0xacc"]}}
    assert "0xacc is halted until they agree" in drawn(render_status(status))


LONG = {
    **POSITION,
    "quantity": "-12.34567",
    "average_entry_price": "63990.12345678901234567890123",
    "unrealized_pnl": "-1234.56789012345678901234",
    "realized_pnl": "98765.4321098765432109",
    "net_pnl": "-98765.0000001234",
}


def test_positions_fit_into_eighty_columns() -> None:
    row = {"strategy": "market-maker", **LONG}
    part = {"rows": [row], "total": 1, "sums": LONG}
    account = {"account": "hyperliquid.0x" + "66" * 20, **part}
    text = drawn(render_positions({"accounts": [account], "strategies": part}), 200)
    assert max(len(one.rstrip()) for one in text.splitlines()) <= 80
    for amount in ("-12.34567", " 63990.123 ", "-1234.56789 ", "98765.43211 ", " -98765\n"):
        assert amount in text
    told = render_status({"positions": [LONG], "strategies": [{"name": "a", "reason": "x " * 90}]})
    narrow = drawn(told, 80)
    assert "…" not in narrow
    assert "63990.123" in narrow
    assert max(len(one.rstrip()) for one in narrow.splitlines()) <= 80


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("-0.00000001", "0"),
        ("1.50", "1.50"),
        ("1.2345675", "1.234568"),
        ("9.9999999", "10"),
        ("1E-9", "1E-9"),
        (None, "-"),
        ([0.1234567890123], "[0.1234567890123]"),
    ],
)
def test_long_amounts_are_rounded_for_people(value: Any, told: str) -> None:
    assert rounded(value) == told


def test_small_prices_keep_their_figures() -> None:
    assert rounded("0.000012345678901", figures=8) == "0.000012345679"


def test_tables_are_as_wide_as_columns_says(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    reason = "x" * 5 + " y" * 60
    answer = {"strategies": [{"name": "maker", "state": "halted", "reason": reason}]}
    for columns, widest in (("80", 80), ("", 140)):
        monkeypatch.setenv("COLUMNS", columns)
        assert line.run("status", answer=answer) == ExitCode.OK
        assert f"\nmaker: {reason[:60]}" in line.out
        assert max(len(one.rstrip()) for one in line.out.splitlines()) <= widest


def test_one_kind_of_orders_is_listed_at_a_time(line: Line) -> None:
    assert line.run("orders", "--open", "--closed", answer={}) == ExitCode.USAGE
    assert "--open, --closed: give one of them" in line.err
    assert line.asked == []


DURABLE: Mapping[str, Any] = {
    "journal": {
        "written_sequence": 1_234,
        "durable_sequence": 1_230,
        "commits": 88,
        "pending_records": 4,
        "segments_made": 2,
        "bytes": 3_355_443,
        "folder": "/var/lib/zq/journal",
        "damage": ["segment 3: frame at 1024 quarantined"],
    },
    "history": {"sequence": 1_200, "behind": 34, "path": "/var/lib/zq/history.sqlite"},
    "recovery": {
        "asked": 3,
        "resolved": 2,
        "adopted": 1,
        "cancelled": 0,
        "unresolved": 1,
        "fills": 4,
        "complete": False,
        "adjusted": ["hyperliquid.BTC: ours 1, venue's 0"],
    },
    "execution": {"in_doubt": 2, "external_orders": {"adopt": 1, "report": 2, "odd": 3}},
    "watchdog": {"interval_s": 10, "fed": 300, "last_fed_s": 1.2, "late": True, "lost": 1},
}


def test_what_keeps_orders_from_being_lost_is_in_the_status() -> None:
    lines = [" ".join(one.split()) for one in drawn(render_status(DURABLE)).splitlines()]
    for line in (
        "journal written sequence 1234 durable sequence 1230 commits 88 segments made 2 "
        "pending records 4 3.2 MiB",
        "history sequence 1200 behind 34 /var/lib/zq/history.sqlite",
        "recovery asked 3 resolved 2 adopted 1 cancelled 0 unresolved 1 fills 4",
        "the venue does not keep every fill since the last known one",
        "taken over from the venue: hyperliquid.BTC: ours 1, venue's 0",
        "in doubt 2 orders: the venue is being asked about them",
        "external adopted 1 reported 2 odd 3",
        "watchdog every 10.0s fed 300 last 1.2s ago lost 1 the trading loop does not turn",
        "segment 3: frame at 1024 quarantined",
    ):
        assert any(one.startswith(line) for one in lines), (line, lines)


@pytest.mark.parametrize(
    "status",
    [
        {"journal": None, "recovery": {}, "execution": {"in_doubt": 0, "external_orders": {}}},
        {"journal": [], "watchdog": 5, "execution": {"external_orders": 3}},
    ],
)
def test_what_is_not_there_is_left_out_of_the_status(status: Any) -> None:
    assert "Durability" not in drawn(render_status(status))


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1_023, "1023 B"), (1_024, "1.0 KiB"), (5 << 40, "5.0 TiB"), ("odd", "odd")],
)
def test_sizes_are_told_in_their_unit(size: Any, text: str) -> None:
    last = drawn(render_status({"journal": {"bytes": size}})).splitlines()[-1]
    assert last.split() == ["journal", *text.split()]
