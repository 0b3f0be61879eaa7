"""Which kernel this is, and what is right on it.

A row of TABLE says how a behaviour looks from a release on, and why it changed: a feature, a change, a fix.
Before a feature or a change the old behaviour was right in its time: a test asserts the row that holds on the
running kernel. A fix is right on every kernel: the test asserts it, fails where it is not carried, and the
expectation says since when it is there. So the compare page can tell which differences were meant.

Rows are found by the driver's own version (DRM minor) where that tells, since a module built out of tree may
be newer than its kernel; else by the kernel's release, stable backports included. A release candidate counts
as its release: what the merge window brought is in rc1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# "7.3.4+deb13-amd64", "7.3.0-rc7-00012-gabcdef", "7.3-rc7", "7.3~rc7", "6.18.44-fc"
_RELEASE = re.compile(r"^(\d{1,4})\.(\d{1,4})(?:\.(\d{1,6}))?(?:[-~]rc(\d{1,3}))?")
Key = tuple[int, int, int, int]


class UnknownReleaseError(ValueError):
    """A text that does not begin like a kernel release."""


@dataclass(frozen=True)
class Release:
    """A kernel release: ``rc`` is None for a final or stable one."""

    major: int
    minor: int
    patch: int = 0
    rc: int | None = None

    @property
    def key(self) -> Key:
        """Sorts candidates before the release they lead to."""
        return (self.major, self.minor, 1, self.patch) if self.rc is None else self._candidate(self.rc)

    def _candidate(self, rc: int) -> Key:
        return (self.major, self.minor, 0, rc)

    def __str__(self) -> str:
        if self.rc is not None:
            return f"{self.major}.{self.minor}-rc{self.rc}"
        return f"{self.major}.{self.minor}.{self.patch}"


def parse(text: str) -> Release:
    """``uname -r`` or a version as Release; UnknownReleaseError when it is none."""
    match = _RELEASE.match(text)
    if not match:
        raise UnknownReleaseError(f"{text[:80]!r} does not begin like a kernel release, as 7.3.4 does")
    major, minor, patch, rc = match.groups()
    return Release(int(major), int(minor), int(patch or 0), int(rc) if rc else None)


def _point(text: str) -> Key:
    """When something came: "7.3" is the merge window (from rc1), "7.3.0" the release, "7.3-rc2", "7.2.7"."""
    release = parse(text)
    if release.rc is None and text.count(".") == 1:
        return (release.major, release.minor, 0, 0)
    return release.key


def carries(release: Release, points: tuple[str, ...]) -> bool:
    """Whether a release has what came at ``points``: one in the main line, others on stable branches."""
    if not points:
        return True
    keys = sorted(_point(point) for point in points)
    return release.key >= keys[-1] or any(
        key[:2] == release.key[:2] and release.key >= key for key in keys[:-1]
    )


@dataclass(frozen=True)
class Level:
    """What decides the rows: the kernel's release, the driver's minor version, the NPU's generation."""

    release: Release
    minor: int
    generation: str


@dataclass(frozen=True)
class Row:
    """A behaviour from ``since`` on. ``minor``: the driver version that brought it, which then decides."""

    value: object
    since: tuple[str, ...] = ()
    minor: int | None = None
    kind: str = "initial"  # initial, feature, change, fix
    source: str = ""

    def holds(self, level: Level) -> bool:
        """Whether the row applies."""
        if self.minor is not None:
            return level.minor >= self.minor
        return carries(level.release, self.since)


@dataclass(frozen=True)
class Expectation:
    """The row to assert, ready to be reported. ``carried``: the running kernel is believed to behave so."""

    key: str
    row: Row
    until: tuple[str, ...]
    carried: bool

    def plain(self) -> dict[str, object]:
        """As in the ``expectations`` of a result event."""
        return {
            "key": self.key,
            "expected": self.row.value,
            "kind": self.row.kind,
            "carried": self.carried,
            "since": list(self.row.since),
            "until": list(self.until),
            "source": self.row.source,
        }


def expect(key: str, level: Level) -> Expectation:
    """The last row of ``key`` that holds or is a fix; rows of "key@generation" go first.

    KeyError for an unknown key.
    """
    own = f"{key}@{level.generation}"
    rows = TABLE.get(own) or TABLE[key]
    index = max(
        index for index, row in enumerate(rows) if index == 0 or row.kind == "fix" or row.holds(level)
    )
    return Expectation(
        own if own in TABLE else key,
        rows[index],
        rows[index + 1].since if index + 1 < len(rows) else (),
        rows[index].holds(level),
    )


def _feature(minor: int, since: str, source: str, *, before: str = "EOPNOTSUPP") -> tuple[Row, ...]:
    return (Row(before), Row("ok", (since,), minor, "feature", source))


# Sources are titles or commits of the driver's history; "measured" means found by running the suite.
TABLE: Mapping[str, tuple[Row, ...]] = {
    "driver-minor": (
        Row(0),
        Row(1, ("6.18",), kind="feature", source="GET_ARRAY of hardware contexts"),
        Row(
            6,
            ("6.19",),
            kind="feature",
            source="async errors, debug buffer, resources, telemetry, preemption",
        ),
        Row(8, ("7.1",), kind="feature", source="sensors, buffer usage"),
        Row(10, ("7.2",), kind="feature", source="device types PF and UMQ (AIE4)"),
    ),
    "get-array": _feature(1, "6.18", "Add ioctl DRM_IOCTL_AMDXDNA_GET_ARRAY 2f509fe6a42c", before="EINVAL"),
    "async-error": _feature(2, "6.19", "Support getting last hardware error"),
    "debug-buffer": _feature(3, "6.19", "Support firmware debug buffer"),
    "resource-info": _feature(4, "6.19", "Add IOCTL parameter for resource data"),
    "telemetry": _feature(5, "6.19", "Add IOCTL parameter for telemetry data"),
    "preempt": _feature(6, "6.19", "Support preemption requests"),
    "bo-usage": _feature(8, "7.1", "Add per-process BO memory usage query support"),
    "sensors": (
        Row(("EOPNOTSUPP",)),
        Row(
            ("ok", "ENODEV", "EOPNOTSUPP"),
            ("7.1",),
            7,
            "feature",
            "realtime NPU power estimate f3bffef037fb, column utilization f66d6cc6891e; needs AMD_PMF",
        ),
    ),
    "wait-cmd": (
        Row("EINVAL"),
        Row("EOPNOTSUPP", ("7.2",), 10, "feature", "command doorbell and wait 91f4da826c08, AIE4 only"),
    ),
    "power-low-medium": (
        Row("EOPNOTSUPP"),
        Row("ok", ("7.2",), None, "feature", "Add configuring low and medium power mode e22bb770b01d"),
    ),
    "short-info-buffer": (
        Row("overrun"),
        Row("truncated", ("7.1.5", "7.2"), None, "fix", "Adjust size for copy_to_user(), CVE-2026-74419"),
    ),
    "aie-status-big-buffer": (
        Row("EINVAL"),
        Row("ok", ("7.1",), None, "change", "measured: buffers larger than needed are accepted"),
    ),
    "fdinfo-memory": (
        Row("missing"),
        Row("ok", ("7.2",), None, "feature", "Expose per-client BO memory usage via fdinfo"),
    ),
    "carveout": (
        Row("missing"),
        Row("ok", ("7.2",), None, "feature", "Add carveout memory support for non-IOMMU systems"),
    ),
    "parameter-force_iova": (
        Row("missing"),
        Row("ok", ("7.1",), None, "feature", "Allow forcing IOVA-based DMA ece3e8980907"),
    ),
    "parameter-tdr_timeout_ms": (
        Row("missing"),
        Row("ok", ("7.2",), None, "feature", "Check for device hang on job timeout"),
    ),
    "export-dev-buffer": (
        Row("ok"),
        Row("EOPNOTSUPP", ("7.2.7", "7.3"), None, "fix", "Disable device buffer exporting 9480dd7e"),
    ),
    "sync-imported": (
        Row("ok"),
        Row("EOPNOTSUPP", ("7.2.7", "7.3-rc2"), None, "fix", "refuse to flush an imported BO 0ba8e0f90039"),
    ),
    "sync-outside": (
        Row("ok"),
        Row("EINVAL", ("7.2",), None, "fix", "Fix clflush buffer size ada61841caed, as measured"),
    ),
    "empty-chain": (
        Row("accepted"),
        Row(
            "refused",
            ("7.1.13", "7.2.7", "7.3-rc2"),
            None,
            "fix",
            "reject a command chain that carries no commands ef6d27af71e1",
        ),
    ),
    "short-npu-command": (
        Row("accepted"),
        Row(
            "refused",
            ("6.19",),
            None,
            "fix",
            "measured: between 6.18.15 and 6.19.14; a START_NPU of fewer words than its own header completed",
        ),
    ),
    "second-heap": (
        Row("EBUSY"),
        Row("ok", ("7.2",), None, "feature", "Add expandable device heap support"),
    ),
    "second-heap@npu1": (
        Row("EBUSY"),
        Row("ENOSPC", ("7.2",), None, "feature", "Add expandable device heap support; NPU1 has 64 MiB"),
    ),
    "heap-odd-size": (
        Row("ok"),
        Row("EINVAL", ("7.1",), None, "change", "measured: a heap is a multiple of 64 MiB"),
    ),
    "sleep-under-a-client": (
        Row("awake"),
        Row("asleep", ("6.19",), None, "feature", "Enhance runtime power management 063db451832b"),
    ),
    "contexts-survive-fork": (
        Row("destroyed"),
        Row("kept", ("7.0",), None, "fix", "Remove amdxdna_flush()"),
    ),
    "impossible-service@npu1": (Row("EINVAL"),),
    "impossible-service": (
        Row("EINVAL"),
        Row("ok", ("6.19",), None, "change", "measured: between 6.18.15 and 6.19.14"),
        Row("EINVAL", ("7.2",), None, "change", "measured: between 7.1.13 and 7.2.12"),
    ),
}
