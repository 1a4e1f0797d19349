"""Hyperliquid: its wire format, its session protocol, signing and order entry."""
