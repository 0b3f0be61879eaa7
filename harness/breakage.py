"""Environments that are broken on purpose: what is done to a guest, and what must be said about it (pure).

A row is one broken machine as its owner has it. It is made in a running guest (``do``, undone by ``undo``)
or by the way it is booted (``append``, ``protocol``); then `xdnawatch doctor` and `xdnawatch run` look at it
over SSH as ``user``, as they look at a laptop. The doctor must name the point, and the run must not blame the
kernel. harness.broken_guest does it, `xdnawatch matrix environments` shows it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from harness.doctor_facts import State
from harness.verdict import RunVerdict

Release = tuple[int, int]

NODES_KEPT = "/run/xdnawatch-nodes-kept"  # lab/virtual/init.sh leaves the nodes' rights alone where it exists
PCI = "/sys/bus/pci/devices/0000:00:08.0"  # lab.virtual.qemu puts the NPU there
_FIND = 'm=/lib/modules/$(uname -r); k=$(find "$m/kernel" -name "amdxdna.ko*")'
_LOAD = "modprobe amdxdna"
_UNLOAD = "modprobe -r amdxdna"
_AWAY = f'{_UNLOAD}; {_FIND}; echo "$k" >/root/place; mv "$k" /root/amdxdna.ko; depmod'
_BACK = f'rm -f /boot/config-*; mv /root/amdxdna.ko "$(cat /root/place)"; depmod; {_LOAD}'
_CONFIG = 'mkdir -p /boot; echo "{line}" >"/boot/config-$(uname -r)"'
# The stock module as somebody else's (harness.foreign_module, which the guest has in its folder).
FOLDER = "/root/xdnawatch"
# A program that ends with 2 has failed; a module that is refused is what is wanted.
_FOREIGN = (
    f'{_UNLOAD}; python3 {FOLDER}/foreign_module.py "{{old}}" "{{new}}" && depmod || exit 2; {_LOAD} || true'
)
_OUT_OF_TREE = _FOREIGN.format(old="intree=Y", new="outree=Y")
_OTHER_MAGIC = _FOREIGN.format(old=" SMP preempt mod_unload", new=" UMP preempt mod_unload")
_NATIVE = f'{_UNLOAD}; rm -rf "/lib/modules/$(uname -r)/updates"; depmod; {_LOAD}'
_DENY = f"{_UNLOAD}; mkdir -p /etc/modprobe.d; echo '{{line}}' >/etc/modprobe.d/no-npu.conf"
_ALLOW = f"rm /etc/modprobe.d/no-npu.conf; {_LOAD}"
_LISTENER = "$(pidof dropbear | tr ' ' '\\n' | sort -n | head -n 1)"  # sessions inherit its limits
_LIBRARIES = "/usr/lib/x86_64-linux-gnu"
_XRT = f"{_LIBRARIES}/libxrt_coreutil.so.2.25.0 {_LIBRARIES}/libxrt_driver_xdna.so.2.19.0"
_PYTHON_PATH = "/usr/lib/python3/dist-packages"
_FIRMWARE_AWAY = f"{_UNLOAD}; mv /lib/firmware/amdnpu /root/amdnpu; "
_FIRMWARE_BACK = f"{_UNLOAD}; rm -rf /lib/firmware/amdnpu; mv /root/amdnpu /lib/firmware/amdnpu; {_LOAD}"


@dataclass(frozen=True)
class Breakage:
    """One broken environment. ``do`` and ``undo`` are shell programs for root in the guest.

    ``point``, ``state``, ``words``: the doctor's point that names it, how it stands there, what it says.
    ``verdict``, ``reason``: of a run, and words of its reason. ``tested``: no fact of the machine decides it,
    so the run's tests must (elsewhere none are run: they cannot change the verdict). ``final``: it cannot be
    undone, so the guest ends with it. ``since`` and ``until`` (not included): kernels on which it exists.
    """

    name: str
    what: str
    point: str
    words: str
    reason: str = ""
    do: str = ""
    undo: str = ""
    user: str = "root"
    state: State = State.BAD
    verdict: RunVerdict = RunVerdict.ENVIRONMENT
    final: bool = False
    tested: bool = False
    append: str = ""
    protocol: str | None = None
    since: Release | None = None
    until: Release | None = None

    def exists_on(self, kernel: Release) -> bool:
        """Whether a kernel, given as (major, minor), can be in this state."""
        return (self.since is None or kernel >= self.since) and (self.until is None or kernel < self.until)


HEALTHY = Breakage(
    "nothing",
    "nothing is broken",
    "ioctl",
    "calls answered",
    state=State.OK,
    verdict=RunVerdict.PASS,
    tested=True,
)
"""Begins and ends every boot: what was undone is really undone."""

ROWS: tuple[Breakage, ...] = (
    Breakage(
        "not-loaded", "the module is not loaded", "module", "is not loaded", "is not loaded",
        do=_UNLOAD, undo=_LOAD,
    ),
    Breakage(
        "blacklisted", "a line in modprobe.d keeps the module away", "module", "blacklisted (/etc/modprobe.d",
        "is not loaded",
        do=_DENY.format(line="blacklist amdxdna"), undo=_ALLOW,
    ),
    Breakage(
        "install-false", "modprobe.d runs /bin/false in place of the module", "module", "/bin/false",
        "is not loaded",
        do=_DENY.format(line="install amdxdna /bin/false"), undo=_ALLOW,
    ),
    Breakage(
        "no-module", "the kernel has no amdxdna module", "driver", "has no amdxdna module",
        "has no amdxdna module", do=_AWAY, undo=_BACK,
    ),
    Breakage(
        "built-without", "the kernel was built without the driver", "driver", "was built without",
        "has no amdxdna module",
        do=f"{_AWAY}; " + _CONFIG.format(line="# CONFIG_DRM_ACCEL_AMDXDNA is not set"), undo=_BACK,
    ),
    Breakage(
        "extra-modules", "the kernel has the driver, the package with its module is missing", "driver",
        "its module is not installed", "has no amdxdna module",
        do=f"{_AWAY}; " + _CONFIG.format(line="CONFIG_DRM_ACCEL_AMDXDNA=m"), undo=_BACK,
    ),
    Breakage(
        "foreign-module", "a module that DKMS installed is loaded in place of the kernel's", "origin",
        "a DKMS module", "out-of-tree (DKMS) module", state=State.WARN,
        do=_OUT_OF_TREE, undo=_NATIVE,
    ),
    Breakage(
        "foreign-unfit", "a module that DKMS built for another kernel is in the way", "module",
        "version magic", "is not loaded",
        do=_OTHER_MAGIC, undo=_NATIVE,
    ),
    Breakage(
        "no-firmware", "there is no firmware", "firmware", "the firmware is missing", "firmware",
        do=f"{_FIRMWARE_AWAY}{_LOAD}", undo=_FIRMWARE_BACK,
    ),
    Breakage(
        "other-npus-firmware", "only another NPU's firmware is installed", "firmware",
        "the firmware is missing", "firmware",
        do=f"{_FIRMWARE_AWAY}mkdir -p /lib/firmware/amdnpu; cp -r /root/amdnpu/1502_00 /lib/firmware/amdnpu; "
        f"{_LOAD}",
        undo=_FIRMWARE_BACK,
    ),
    Breakage(
        "firmware-packed-twice", "the firmware file is compressed twice", "firmware",
        "there is only", "firmware",
        do=f"{_FIRMWARE_AWAY}mkdir -p /lib/firmware/amdnpu/17f0_10; "
        f"cp /root/amdnpu/17f0_10/npu.sbin /lib/firmware/amdnpu/17f0_10/npu.sbin.zst.zst; {_LOAD}",
        undo=_FIRMWARE_BACK,
    ),
    Breakage(
        "new-firmware-only", "only npu_7.sbin is there, which kernels up to 6.19 do not ask for", "firmware",
        "takes npu.sbin", "firmware",
        do=f"{_FIRMWARE_AWAY}mkdir -p /lib/firmware/amdnpu/17f0_10; "
        f"cp /root/amdnpu/17f0_10/npu_7.sbin /lib/firmware/amdnpu/17f0_10; {_LOAD}",
        undo=_FIRMWARE_BACK, until=(7, 0),
    ),
    Breakage(
        "firmware-protocol", "the firmware speaks a protocol that the kernel does not take", "firmware",
        "protocol", "fw-proto", protocol="9.0", tested=True,
    ),
    Breakage(
        "no-device", "no NPU is on the PCI bus", "device", "no AMD NPU", "no AMD NPU",
        # pulled from under an IOMMU that gives it shared addresses (up to 7.0), it takes QEMU 11.1.3 down
        append="intel_iommu=off", do=f"echo 1 >{PCI}/remove", undo="echo 1 >/sys/bus/pci/rescan",
    ),
    Breakage(
        "iommu-off", "the IOMMU is off on the kernel command line", "iommu", "intel_iommu=off", "no IOMMU",
        append="intel_iommu=off",
    ),
    Breakage(
        "no-force-iova", "the IOMMU offers no shared addresses and force_iova is off", "iommu",
        "shared virtual addressing", "",
        do=f"{_UNLOAD}; {_LOAD} force_iova=0", undo=f"{_UNLOAD}; {_LOAD} force_iova=1", since=(7, 1),
        tested=True,
    ),
    Breakage(
        "no-shared-addresses", "the IOMMU offers no shared addresses", "iommu", "shared virtual addressing",
        "", append="intel_iommu=sm_off", until=(7, 1), tested=True,
    ),
    Breakage(
        "module-blacklist", "the kernel command line keeps the module away", "module",
        "module_blacklist=amdxdna", "is not loaded", append="module_blacklist=amdxdna",
    ),
    Breakage(
        "unbound", "the driver is loaded, but was taken from the device", "node", "not bound", "",
        do=f"echo 0000:00:08.0 >{PCI}/driver/unbind",
        undo="echo 0000:00:08.0 >/sys/bus/pci/drivers/amdxdna/bind", tested=True,
    ),
    Breakage(
        "root-only", "the node is root's alone", "permission", "nobody but root", "may not open", user="user",
        do=f"touch {NODES_KEPT}; chown root:root /dev/accel/accel0; chmod 600 /dev/accel/accel0",
        undo=f"rm {NODES_KEPT}; chgrp render /dev/accel/accel0; chmod 660 /dev/accel/accel0",
    ),
    Breakage(
        "not-in-group", "the user is not in the node's group", "permission", "is not in the group render",
        "may not open", user="outsider",
    ),
    Breakage(
        "memlock", "the user may lock next to no memory", "memlock", "lock only 65536 bytes", "lock only",
        user="user", do=f"prlimit --pid {_LISTENER} --memlock=65536:65536",
        undo=f"prlimit --pid {_LISTENER} --memlock=unlimited:unlimited",
    ),
    Breakage(
        "no-python", "there is no python3", "python", "no python3", "no python3",
        do="mv /usr/bin/python3 /root/python3", undo="mv /root/python3 /usr/bin/python3",
    ),
    Breakage(
        "no-pytest", "there is no pytest", "tools", "pytest missing", "no pytest", state=State.WARN,
        do=f"mv {_PYTHON_PATH}/pytest /root", undo=f"mv /root/pytest {_PYTHON_PATH}",
    ),
    Breakage(
        "xrt-mixed", "XRT's core and its NPU plug-in are of different releases", "xrt", "do not fit", "",
        verdict=RunVerdict.PASS, tested=True,  # the suite speaks to the driver and needs no XRT
        do=f"touch {_XRT}", undo=f"rm {_XRT}",
    ),
    Breakage(
        "oops-before", "the kernel died once since it was booted", "origin", "reported an oops",
        "reported an oops", state=State.WARN, do="echo 128 >/proc/sys/kernel/tainted", final=True,
    ),
    Breakage(
        "unsigned", "the kernel takes signed modules only, and the one in the way has no signature",
        "secure-boot", "no signature that the kernel accepts", "is not loaded",
        do="echo 1 >/sys/module/module/parameters/sig_enforce; "
        + _OUT_OF_TREE,
        final=True,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Boot:
    """Rows that one guest can go through, in this order."""

    append: str
    protocol: str | None
    rows: tuple[Breakage, ...]


def boots(rows: Iterable[Breakage], kernel: Release) -> list[Boot]:
    """As few boots as these rows need on a kernel; a final one is the last of its boot."""
    wanted = [row for row in rows if row.exists_on(kernel)]
    found: list[Boot] = []
    for (append, protocol), some in groupby(
        sorted(wanted, key=lambda row: (row.append, row.protocol or "")),
        lambda row: (row.append, row.protocol),
    ):
        together = list(some)
        lasting = [row for row in together if row.final]
        first = (*(row for row in together if not row.final), *lasting[:1])
        found.append(Boot(append, protocol, first))
        found += [Boot(append, protocol, (row,)) for row in lasting[1:]]
    return found


@dataclass(frozen=True)
class Seen:
    """What doctor and run said of one row on one kernel. ``cause``: the doctor's first bad point."""

    row: Breakage
    kernel: str
    cause: str | None
    state: str  # of the point that must name it
    said: str
    next_step: str
    verdict: str
    reason: str
    exit_codes: tuple[int, int]  # doctor's, run's
    seconds: tuple[float, float]

    @property
    def doctor_right(self) -> bool:
        """The point names it, in the right state, and no other point is said to be the cause."""
        expected = self.row.point if self.row.state is State.BAD else None
        return self.cause == expected and self.state == self.row.state.value and self.row.words in self.said

    @property
    def run_right(self) -> bool:
        """The verdict is the row's, for the row's reason."""
        return self.verdict == self.row.verdict.value and self.row.reason in self.reason

    @property
    def right(self) -> bool:
        """Both."""
        return self.doctor_right and self.run_right


def chosen(names: Sequence[str]) -> list[Breakage]:
    """The rows of these names, all without names; ValueError for a name that there is not."""
    known = {row.name: row for row in ROWS}
    for name in names:
        if name not in known:
            raise ValueError(f"no broken environment {name!r}; there are {', '.join(known)}")
    return [row for row in ROWS if not names or row.name in names]
