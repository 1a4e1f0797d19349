"""The daemon as a user runs it: real processes, real sockets on loopback, real signals."""

import signal
from decimal import Decimal
from pathlib import Path

from tests.harness.process import demo_config, free_port, running_daemon
from zq_daemon.control.client import request


async def test_both_strategies_trade_and_sigterm_stops_gracefully(tmp_path: Path) -> None:
    async with running_daemon(tmp_path, demo_config(free_port())) as daemon:
        await daemon.wait_event("running")
        filled = {
            (await daemon.wait_event("order filled", strategy=name))["client_order_id"]
            for name in ("trend", "maker")
        }
        status = await daemon.status()
        code = await daemon.stop()
    assert len(filled) == 2
    assert status["daemon"]["state"] == "running"
    assert {link["state"] for link in status["links"]} == {"up"}
    assert [one["state"] for one in status["strategies"]] == ["running", "running"]
    assert status["orders"]["closed"] > 0
    (market,) = status["market"]
    assert Decimal(market["bid"]) < Decimal(market["ask"])
    assert code == 0
    stopped = await daemon.wait_event("stopped")
    assert stopped["reason"] == "SIGTERM"
    assert stopped["orders"].endswith("0 unverified")


async def test_ctrl_c_is_a_graceful_stop(tmp_path: Path) -> None:
    async with running_daemon(tmp_path, demo_config(free_port())) as daemon:
        await daemon.wait_event("running")
        daemon.send_signal(signal.SIGINT)
        assert await daemon.wait_exit() == 0
    assert (await daemon.wait_event("stopped"))["reason"] == "SIGINT"


async def test_a_stop_during_start_up(tmp_path: Path) -> None:
    config = demo_config(free_port()).replace("enabled = true", "enabled = false")
    config = config.replace('streams = ["orderUpdates", "userFills"]', 'streams = ["bbo:ETH"]')
    async with running_daemon(tmp_path, config) as daemon:
        failed = await daemon.wait_event("instruments not loaded")
        status = await daemon.status()
        assert await daemon.stop() == 0
    assert status["daemon"]["state"] == "starting"
    assert status["daemon"]["detail"].startswith("loading instruments")
    assert "cannot connect" in failed["error"]
    assert (await daemon.wait_event("stopped during start-up"))["reason"] == "SIGTERM"


async def test_a_reload_applies_what_it_can_and_names_what_needs_a_restart(tmp_path: Path) -> None:
    port = free_port()
    async with running_daemon(tmp_path, demo_config(port)) as daemon:
        await daemon.wait_event("running")
        changed = demo_config(
            port, extra="heartbeat_interval_ms = 5000\n[risk]\nmax_open_orders = 7"
        )
        changed = changed.replace("tick_interval_ms = 100", "tick_interval_ms = 200")
        changed = changed.replace("fast = 2", "fast = 3")
        (tmp_path / "config.toml").write_text(changed)
        daemon.send_signal(signal.SIGHUP)
        reloaded = await daemon.wait_event("configuration reloaded")
        (tmp_path / "config.toml").write_text(changed.replace("[risk]", "[riskk]"))
        daemon.send_signal(signal.SIGHUP)
        refused = await daemon.wait_event("reload refused, nothing changed")
        status = await daemon.status()
        assert await daemon.stop() == 0
    assert set(reloaded["applied"]) == {
        "tick_interval_ms",
        "risk.max_open_orders",
        "strategies[0].params.fast",
    }
    assert reloaded["needs_restart"] == ["heartbeat_interval_ms"]
    assert reloaded["level"] == "warning"
    assert status["daemon"]["needs_restart"] == ["heartbeat_interval_ms"]
    assert "did you mean 'risk'" in refused["error"]


async def test_a_second_daemon_on_the_same_state_is_refused(tmp_path: Path) -> None:
    async with running_daemon(tmp_path, demo_config(free_port())) as first:
        await first.wait_event("running")
        async with running_daemon(tmp_path, demo_config(free_port())) as second:
            assert await second.wait_exit() == 69
        assert (await first.status())["daemon"]["state"] == "running"
        assert await first.stop() == 0


async def test_a_port_that_is_taken_ends_with_a_clear_error(tmp_path: Path) -> None:
    port = free_port()
    async with running_daemon(tmp_path, demo_config(port)) as first:
        await first.wait_event("running")
        other = tmp_path / "other"
        other.mkdir()
        async with running_daemon(other, demo_config(port)) as second:
            fatal = await second.wait_event("fatal")
            assert await second.wait_exit() == 69
    assert f"cannot listen on 127.0.0.1:{port}" in fatal["error"]


async def test_the_kill_switch_cancels_and_an_operator_activates(tmp_path: Path) -> None:
    socket_path = tmp_path / "var" / "control.sock"
    async with running_daemon(tmp_path, demo_config(free_port())) as daemon:
        await daemon.wait_event("order accepted", strategy="maker")
        await request(socket_path, "halt")
        await daemon.wait_event("order denied", strategy="maker", code="TRADING_HALTED")
        await daemon.wait_event("order canceled", strategy="maker")
        halted = await daemon.status()
        await request(socket_path, "activate")
        seen = len(daemon.log)
        await daemon.wait_log(
            lambda line: line.get("event") == "order accepted" and line in daemon.log[seen:],
            "an order after the activation",
        )
        assert await daemon.stop() == 0
    assert halted["daemon"]["trading_state"] == "halted"
    assert "control socket" in halted["daemon"]["trading_reason"]
