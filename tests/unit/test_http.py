"""Base URLs taken apart, and what HTTP values show of themselves."""

from __future__ import annotations

import pytest

from zq_daemon.ports.http import HttpReply, Origin


@pytest.mark.parametrize(
    ("url", "host", "port", "tls", "path", "header"),
    [
        ("https://api.example.com", "api.example.com", 443, True, "", "api.example.com"),
        ("http://127.0.0.1:18473/", "127.0.0.1", 18473, False, "", "127.0.0.1:18473"),
        ("HTTPS://Host:443/a/b/", "host", 443, True, "/a/b", "host"),
        ("http://[::1]:80", "::1", 80, False, "", "[::1]"),
        ("https://[2001:db8::1]:8443", "2001:db8::1", 8443, True, "", "[2001:db8::1]:8443"),
        ("http://host:443", "host", 443, False, "", "host:443"),
    ],
)
def test_a_base_url_is_taken_apart(url, host, port, tls, path, header):
    origin = Origin.parse(url)
    assert origin == Origin(host=host, port=port, tls=tls, path=path)
    assert origin.host_header == header


def test_an_origin_writes_itself_as_its_url():
    assert str(Origin.parse("https://host:8443/api/")) == "https://host:8443/api"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host",
        "ftp://host",
        "ws://host",
        "http://",
        "https:///path",
        "http://host:port",
        "http://host:99999",
        "http://[::1",
        "http://host?query",
        "http://host#fragment",
    ],
)
def test_a_malformed_base_url_is_a_value_error(url):
    with pytest.raises(ValueError, match="URL"):
        Origin.parse(url)


def test_credentials_in_a_url_are_refused_and_not_quoted():
    with pytest.raises(ValueError, match="no user") as refused:
        Origin.parse("https://user:hunter2@host/")
    assert "hunter2" not in str(refused.value)


def test_a_reply_does_not_show_its_content():
    assert "secret" not in repr(HttpReply(200, b"secret"))
