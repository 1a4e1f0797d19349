"""The operator's way in: a Unix socket that answers requests about the running daemon."""
