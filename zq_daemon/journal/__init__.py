"""The journal: every order intent, durable before a byte of the order leaves.

`record` says what is written, `journal` is the port the execution engine writes through, `lines`
its present form: one JSON line a record.
"""
