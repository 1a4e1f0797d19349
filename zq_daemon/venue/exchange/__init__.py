"""The embedded exchange: Hyperliquid's protocol over a market of our own, to trade against."""
