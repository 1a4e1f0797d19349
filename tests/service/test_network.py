"""The network port: what it says of a host that cannot be connected to."""

from __future__ import annotations

import pytest
import trio

from zq_daemon.errors import LinkError
from zq_daemon.ports.network import SystemNetwork


async def _refusal(host: str, port: int) -> str:
    with pytest.raises(LinkError) as caught:
        await SystemNetwork().connect(host, port, tls=False)
    return str(caught.value)


def test_a_port_nobody_listens_at() -> None:
    async def main() -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        await listener.aclose()
        said = await _refusal("127.0.0.1", port)
        assert said == f"cannot connect to 127.0.0.1:{port}: Connection refused"

    trio.run(main)


def test_a_reason_that_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_host: str, _port: int) -> None:
        raise OSError("no address") from ExceptionGroup("", [OSError("no route"), OSError("odd")])

    monkeypatch.setattr(trio, "open_tcp_stream", fail)
    assert trio.run(_refusal, "venue", 9) == "cannot connect to venue:9: no route, odd"
