"""What is allowed but hardly meant: told by `zq-daemon check` and logged when the daemon starts.

Pure. A configuration that cannot be used is an error and `config.load`'s; what is said here are the
settings that do not fit together although each is right by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from zq_daemon.config.schema import DaemonConfig

_HOSTS = {
    "api.hyperliquid.xyz": "mainnet",
    "api.hyperliquid-testnet.xyz": "testnet",
}
_LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})


def advise(config: DaemonConfig) -> tuple[str, ...]:
    """One sentence for each oddity, in the order in which an operator would meet them."""
    return (*_about_links(config), *_about_strategies(config))


def _about_links(config: DaemonConfig) -> Iterator[str]:
    if not config.ws_endpoints:
        yield "there is no [[ws_endpoints]]: nothing will be received"
    network = config.venues.hyperliquid.network
    urls = [endpoint.url for endpoint in config.ws_endpoints]
    api_url = config.venues.hyperliquid.api_url
    for url in (*urls, *(() if api_url is None else (api_url,))):
        hosts = _HOSTS.get(urlsplit(url).hostname or "", network)
        if hosts != network:
            yield f"{url} is {hosts}, but venues.hyperliquid.network is {network!r}: orders fail"
    local = [urlsplit(url) for url in urls if urlsplit(url).hostname in _LOCAL]
    if config.exchange.enabled and config.exchange.port not in {url.port for url in local}:
        yield (
            f"exchange.port is {config.exchange.port}, but no endpoint's url has that port: "
            "the embedded exchange will have no visitors"
        )
    if local and api_url is None:
        yield (
            "an endpoint is on this machine, but venues.hyperliquid.api_url is not set: "
            f"instruments will come from Hyperliquid's {network}"
        )


def _about_strategies(config: DaemonConfig) -> Iterator[str]:
    streams = {stream for endpoint in config.ws_endpoints for stream in endpoint.streams}
    enabled = [strategy for strategy in config.strategies if strategy.enabled]
    symbols = {stream.partition(":")[2] for stream in streams}
    for strategy in enabled:
        for instrument in strategy.instruments:
            if instrument.partition(".")[2] not in symbols:
                yield f"strategy {strategy.name}: no endpoint has a stream of {instrument}"
    if enabled and "orderUpdates" not in streams:
        yield "no endpoint has the stream 'orderUpdates': every order will be denied"
