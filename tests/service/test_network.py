"""The network port: what it says of a host that cannot be connected to."""

from __future__ import annotations

import contextlib
import shutil
import ssl
import subprocess
from pathlib import Path

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


@pytest.mark.parametrize("host", ["exa..com", "a" * 64 + ".com", "\u00fc" * 64, "xn--\u00df"])
def test_a_name_that_no_resolver_takes(host: str) -> None:
    assert trio.run(_refusal, host, 9).startswith(f"cannot connect to {host}:9: ")


def test_no_listener_at_a_name_that_no_resolver_takes() -> None:
    with pytest.raises(LinkError, match=r"cannot listen on exa\.\.com:0: "):
        trio.run(SystemNetwork().listen, "exa..com", 0)


def test_a_reason_that_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_host: str, _port: int) -> None:
        raise OSError("no address") from ExceptionGroup("", [OSError("no route"), OSError("odd")])

    monkeypatch.setattr(trio, "open_tcp_stream", fail)
    assert trio.run(_refusal, "venue", 9) == "cannot connect to venue:9: no route, odd"


async def _tls_refusal(speak: bytes) -> str:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(speak)
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, answer, [listener])
        port = listener.socket.getsockname()[1]
        with pytest.raises(LinkError) as caught:
            await SystemNetwork().connect("127.0.0.1", port, tls=True)
        nursery.cancel_scope.cancel()
    return str(caught.value)


@pytest.mark.parametrize("speak", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
async def test_a_far_side_that_speaks_no_tls(speak: bytes) -> None:
    assert (await _tls_refusal(speak)).startswith("no TLS with 127.0.0.1:")


async def test_a_certificate_nobody_vouches_for(tmp_path: Path) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*_self_signed(tmp_path))

    async def answer(stream: trio.SSLStream[trio.SocketStream]) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.do_handshake()

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_ssl_over_tcp_listeners(0, server, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, answer, [listener])
        port = listener.transport_listener.socket.getsockname()[1]
        with pytest.raises(LinkError, match=r"no TLS with .*certificate verify failed"):
            await SystemNetwork().connect("127.0.0.1", port, tls=True)
        nursery.cancel_scope.cancel()


async def test_tls_with_a_certificate_that_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = _self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)

    async def answer(stream: trio.SSLStream[trio.SocketStream]) -> None:
        await stream.send_all(b"hello")

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_ssl_over_tcp_listeners(0, server, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, answer, [listener])
        port = listener.transport_listener.socket.getsockname()[1]
        stream = await SystemNetwork().connect("localhost", port, tls=True)
        assert await stream.receive_some() == b"hello"
        await trio.aclose_forcefully(stream)
        nursery.cancel_scope.cancel()


def _self_signed(folder: Path) -> tuple[Path, Path]:
    certificate, key = folder / "cert.pem", folder / "key.pem"
    if shutil.which("openssl") is None:
        pytest.skip("no openssl on this machine to make a certificate with")
    request = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = "-subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run(
        [*request.split(), *names.split(), "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    return certificate, key
