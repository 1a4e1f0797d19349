"""The trading day: market data in, orders out, what was not understood kept aside."""
