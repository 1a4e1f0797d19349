"""What an operator can do about an error of the disk, for the messages of the log."""

from __future__ import annotations

import errno

_ADVICE = {
    errno.ENOSPC: "free space on that disk, or move the folder to a larger one",
    errno.EDQUOT: "raise the user's quota on that disk",
    errno.EROFS: "mount that disk writable",
    errno.EACCES: "make the folder and its files the daemon's user's own",
    errno.EPERM: "make the folder and its files the daemon's user's own",
    errno.EIO: "look at the health of that disk (dmesg, smartctl) before anything else",
    errno.EMFILE: "raise the limit of open files (LimitNOFILE= in a unit)",
}


def advice(error: OSError) -> str:
    """The end of a message: what to do, or nothing where there is nothing to say."""
    known = _ADVICE.get(error.errno) if error.errno is not None else None
    return "" if known is None else f": {known}"
