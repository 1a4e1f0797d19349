"""Strategies: what one is (`base`), what it sees and does (`context`), and who runs it (`host`)."""
