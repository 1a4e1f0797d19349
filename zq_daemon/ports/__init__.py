"""The ports: time, sockets, files, threads and randomness, each a protocol and its real form.

Nothing outside of this package touches them, so that a simulation can put its own in their place.
`network` opens byte streams and `http` speaks HTTP over them.
"""
