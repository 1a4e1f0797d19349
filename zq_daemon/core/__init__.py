"""The domain's rules as synchronous state machines: bus, cache, book, bars, orders, risk, matching.

Never waits, never does I/O, never reads a clock: time comes in as an argument. Imports the model
and the errors only; engines, venues and the back-test drive it.
"""
