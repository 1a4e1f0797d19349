"""What is allowed but hardly meant: told by `zq-daemon check` and logged when the daemon starts.

Pure. A configuration that cannot be used is an error and `config.load`'s; what is said here are the
settings that do not fit together although each is right by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from urllib.parse import urlsplit

from zq_daemon.config.schema import DaemonConfig
from zq_daemon.config.streams import split_stream

_HOSTS = {
    "api.hyperliquid.xyz": "mainnet",
    "api.hyperliquid-testnet.xyz": "testnet",
}
_MOST_SUBSCRIPTIONS = 1_000
_MOST_CONNECTIONS = 10
_LOCAL = frozenset({"127.0.0.1", "localhost", "::1"})


def advise(config: DaemonConfig) -> tuple[str, ...]:
    """One sentence for each oddity, in the order in which an operator would meet them."""
    return (
        *_about_links(config),
        *_about_limits(config),
        *_about_paper(config),
        *_about_strategies(config),
    )


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


def _about_paper(config: DaemonConfig) -> Iterator[str]:
    exchange = config.exchange
    if exchange.follow is None:
        return
    if not exchange.enabled:
        yield "exchange.follow is set, but exchange.enabled is not: nothing is followed"
        return
    followed = urlsplit(exchange.follow)
    if followed.hostname in _LOCAL and followed.port == exchange.port:
        yield "exchange.follow has exchange.port: the embedded exchange cannot follow itself"
    for endpoint in config.ws_endpoints:
        if "orderUpdates" in endpoint.streams and urlsplit(endpoint.url).hostname not in _LOCAL:
            yield (
                f"exchange.follow is for trading on paper, but {endpoint.url} is not the embedded "
                "exchange: orders there are real"
            )


def _about_limits(config: DaemonConfig) -> Iterator[str]:
    """What a venue takes from one address of the internet (documented ones only: not exact)."""
    loads: Counter[str] = Counter()
    links: Counter[str] = Counter()
    for endpoint in config.ws_endpoints:
        host = urlsplit(endpoint.url).hostname or ""
        loads[host] += len(endpoint.streams)
        links[host] += -(-len(endpoint.streams) // endpoint.max_streams)
    for host in _HOSTS:
        if loads[host] > _MOST_SUBSCRIPTIONS:
            yield f"{loads[host]} streams from {host}: it takes {_MOST_SUBSCRIPTIONS} from one host"
        if links[host] > _MOST_CONNECTIONS:
            yield (
                f"{links[host]} connections to {host}: it takes {_MOST_CONNECTIONS} from one "
                "host: raise max_streams"
            )


def _about_strategies(config: DaemonConfig) -> Iterator[str]:
    streams = {stream for endpoint in config.ws_endpoints for stream in endpoint.streams}
    enabled = [strategy for strategy in config.strategies if strategy.enabled]
    symbols = {
        split_stream(endpoint.venue, stream).symbol
        for endpoint in config.ws_endpoints
        for stream in endpoint.streams
    }
    for strategy in enabled:
        for instrument in strategy.instruments:
            if instrument.partition(".")[2] not in symbols:
                yield f"strategy {strategy.name}: no endpoint has a stream of {instrument}"
    if enabled and "orderUpdates" not in streams:
        yield "no endpoint has the stream 'orderUpdates': every order will be denied"
