"""What a revert does to the user interface: what no release had yet may be taken back. Pure.

By its diff alone a revert that removes a new ioctl reads as breaking. Whether it is depends on when the other
commit came: within one window no release of mainline has both the interface and its user.
"""

from __future__ import annotations

from dataclasses import replace

from tracker.touches import Touches

_GRAVE = ("check", "breaking")


def taken_back(
    revert: Touches, original: Touches, *, commit: str, brought_in: str | None, undone_in: str | None
) -> Touches:
    """The revert's touches with the verdicts that its original's window gives; others stay.

    ``commit`` is the original; ``brought_in`` and ``undone_in`` are the windows of both ("7.2"), None while
    unknown. Only names that the original touched in the same file are judged anew.
    """
    if brought_in is None or undone_in is None:
        return revert
    its = {(one.file, one.kind, one.name) for one in original.uapi}
    found = []
    for one in revert.uapi:
        if one.verdict in _GRAVE and (one.file, one.kind, one.name) in its:
            if brought_in == undone_in:
                why = f"takes back what commit {commit[:12]} brought in {brought_in}: no release had it"
                one = replace(one, verdict="compatible", reason=why)
            else:
                why = f"{one.reason}; it was in mainline from {brought_in} until {undone_in}"
                one = replace(one, reason=why)
        found.append(one)
    return replace(revert, uapi=tuple(found))
