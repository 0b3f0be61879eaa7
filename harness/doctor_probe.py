"""A closer look at the NPU's driver. This file runs ON the machine: standard library only, Python >= 3.8.

It adds to harness.examine what only a diagnosis needs: how the kernel was configured, what keeps the module
from loading, what the kernel log says of the device, and a few harmless ioctls (nothing is submitted to the
array). Sent through the shell as text; prints one JSON object; judges nothing (``harness.doctor`` does).
"""

from __future__ import annotations

import errno
import fcntl
import grp
import gzip
import json
import mmap
import os
import platform
import pwd
import re
import struct
import subprocess
import sys
from pathlib import Path

TYPE_CHECKING = False  # spares the machine the import of typing; type checkers know the name
if TYPE_CHECKING:
    from typing import Any

CONFIG_LIMIT = 4 << 20  # bytes of a kernel configuration
LOG_LINES = 400  # the newest lines of the log that are about the NPU
LOG_LINE = 500  # characters
LOG_RECORDS = 200_000  # records of the whole log
# A line like "amdxdna 0000:c5:00.1: ...", "DMAR: ...", "Loading of unsigned module is rejected"
WANTED = re.compile(
    r"amdxdna|\bxdna_|\baie[24]_|AMD-Vi|iommu|IOMMU|DMAR|unsigned module|module verification|"
    r"Key was rejected|Lockdown: modprobe|Loading of module|amdnpu"
)
OPTION = "CONFIG_DRM_ACCEL_AMDXDNA"
# "blacklist amdxdna", "install amdxdna /bin/false" of modprobe.d(5)
REFUSAL = re.compile(r"^\s*(?:blacklist\s+amdxdna\s*$|install\s+amdxdna\s+\S*(?:false|true|nologin))")
# include/uapi/drm/drm.h and amdxdna_accel.h; tests hold them against harness.suite.uapi
IOCTL_VERSION = 0xC0406400
IOCTL_GET_INFO = 0xC0106447
IOCTL_CREATE_BO = 0xC0206443
IOCTL_GET_BO_INFO = 0xC0306444
IOCTL_GEM_CLOSE = 0x40086409
INFO_AIE_VERSION = 2
INFO_FIRMWARE_VERSION = 8
INFO_POWER_MODE = 9
BO_SHARE = 1
BUFFER = 4096  # bytes


def read(path: str, limit: int = 65536) -> bytes | None:
    """The beginning of a file, None when it cannot be read."""
    try:
        with Path(path).open("rb") as handle:
            return handle.read(limit)
    except OSError:
        return None


def config() -> dict[str, Any]:
    """Whether the kernel was built with the driver: "y", "m", "n", or None where it does not say."""
    release = platform.release()
    try:
        with gzip.open("/proc/config.gz", "rb") as handle:
            data: bytes | None = handle.read(CONFIG_LIMIT)
            source = "/proc/config.gz"
    except OSError:
        for source in ("/boot/config-" + release, "/lib/modules/" + release + "/config"):
            data = read(source, CONFIG_LIMIT)
            if data is not None:
                break
        else:
            return {"source": None, "value": None}
    found = re.search(rb"^" + OPTION.encode() + rb"=(\w)", data or b"", re.MULTILINE)
    return {"source": source, "value": found.group(1).decode() if found else "n"}


def refusals() -> list[dict[str, str]]:
    """Lines of modprobe's configuration that keep the module away."""
    found = []
    for folder in ("/etc/modprobe.d", "/run/modprobe.d", "/usr/local/lib/modprobe.d", "/lib/modprobe.d"):
        for path in sorted(Path(folder).glob("*.conf"))[:256]:
            for line in (read(str(path)) or b"").decode("utf-8", "replace").splitlines():
                if REFUSAL.match(line):
                    found.append({"file": str(path), "line": line.strip()[:200]})
    return found[:32]


def dkms() -> list[str]:
    """Versions of the driver that DKMS knows of."""
    paths = [*Path("/var/lib/dkms").glob("*xdna*/*"), *Path("/usr/src").glob("*xdna*")]
    return sorted(str(path) for path in paths if path.is_dir() and not path.is_symlink())[:16]


def signing() -> dict[str, Any]:
    """Whether the kernel refuses modules without a signature."""
    enforced = read("/sys/module/module/parameters/sig_enforce")
    return {"enforced": None if enforced is None else enforced.strip() in (b"Y", b"1")}


def groups() -> list[str]:
    """The groups that the user is listed in, also those that this login does not have yet."""
    try:
        name = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return []
    return sorted(group.gr_name for group in grp.getgrall() if name in group.gr_mem)


def log() -> dict[str, Any]:
    """The newest kernel messages about the NPU, as "<level>[seconds] text", oldest first."""
    text = kmsg()
    way = "direct"
    if text is None:
        way = "sudo"
        for command in (["sudo", "-n", "dmesg", "-r"], ["journalctl", "-k", "-b", "-q", "--no-pager"]):
            try:
                done = subprocess.run(
                    command, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False
                )
            except (OSError, subprocess.SubprocessError):
                continue
            if done.returncode == 0 and done.stdout.strip():
                way = command[0]
                text = done.stdout.decode("utf-8", "replace").splitlines()
                break
    if text is None:
        return {"readable": False, "lines": []}
    lines = [line[:LOG_LINE] for line in text if WANTED.search(line)]
    return {"readable": True, "way": way, "lines": lines[-LOG_LINES:]}


def kmsg() -> list[str] | None:
    """Every record of /dev/kmsg; None without the right to read it."""
    try:
        descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    found: list[str] = []
    try:
        for _record in range(LOG_RECORDS):
            try:
                data = os.read(descriptor, 8192)
            except BrokenPipeError:
                continue  # the ring went over it; the next read goes on behind the gap
            except OSError:
                break  # EAGAIN: that was all
            head, _, message = data.partition(b";")
            parts = head.split(b",")
            if len(parts) < 3 or not parts[0].isdigit() or not parts[2].isdigit():
                continue
            micro = int(parts[2])
            line = message.split(b"\n", 1)[0].decode("utf-8", "replace")
            found.append(f"<{int(parts[0]) & 7}>[{micro // 1000000:5d}.{micro % 1000000:06d}] {line}")
    finally:
        os.close(descriptor)
    return found


def test() -> dict[str, Any]:
    """Open the first node and ask it a few things; each step says "ok" or an errno's name."""
    nodes = sorted(str(path) for path in Path("/dev/accel").glob("accel*"))
    answer: dict[str, Any] = {"node": nodes[0] if nodes else None, "steps": []}
    if not nodes:
        return answer
    steps: list[dict[str, str]] = answer["steps"]

    def step(name: str, action: Any) -> Any:
        try:
            value = action()
        except OSError as error:
            steps.append({"name": name, "result": errno.errorcode.get(error.errno or 0, str(error.errno))})
            return None
        steps.append({"name": name, "result": "ok"})
        return value

    node = step("open", lambda: os.open(nodes[0], os.O_RDWR | os.O_CLOEXEC))
    if node is None:
        return answer
    try:
        answer["driver"] = step("DRM_IOCTL_VERSION", lambda: version(node))
        answer["aie"] = step("GET_INFO AIE_VERSION", lambda: words(node, INFO_AIE_VERSION, 2))
        answer["firmware"] = step("GET_INFO FIRMWARE_VERSION", lambda: words(node, INFO_FIRMWARE_VERSION, 4))
        answer["power_mode"] = step("GET_INFO POWER_MODE", lambda: words(node, INFO_POWER_MODE, 2)[0] & 0xFF)
        step("CREATE_BO, mmap, write, close", lambda: buffer(node))
    finally:
        os.close(node)
    return answer


def address(block: bytearray) -> int:
    """Where a block lies, for a pointer inside an ioctl's argument."""
    import ctypes  # the only user; a machine without a node does not pay for it

    return ctypes.addressof(ctypes.c_char.from_buffer(block))


def version(node: int) -> list[Any]:
    """Name, major, minor, patch level of the DRM driver."""
    name = bytearray(64)
    block = bytearray(struct.pack("<iiiiQQQQQQ", 0, 0, 0, 0, 63, address(name), 0, 0, 0, 0))
    fcntl.ioctl(node, IOCTL_VERSION, block)
    return [bytes(name).split(b"\0", 1)[0].decode("ascii", "replace"), *struct.unpack_from("<iii", block)]


def words(node: int, parameter: int, count: int) -> list[int]:
    """GET_INFO of ``count`` 32-bit words."""
    payload = bytearray(4 * count)
    fcntl.ioctl(
        node, IOCTL_GET_INFO, bytearray(struct.pack("<IIQ", parameter, len(payload), address(payload)))
    )
    return list(struct.unpack(f"<{count}I", payload))


def buffer(node: int) -> None:
    """A buffer is made, mapped, written, read back and closed; EIO when it reads back something else."""
    made = bytearray(struct.pack("<QQQII", 0, 0, BUFFER, BO_SHARE, 0))
    fcntl.ioctl(node, IOCTL_CREATE_BO, made)
    handle = struct.unpack_from("<I", made, 28)[0]
    try:
        told = bytearray(struct.pack("<QQIIQQQ", 0, 0, handle, 0, 0, 0, 0))
        fcntl.ioctl(node, IOCTL_GET_BO_INFO, told)
        offset = struct.unpack_from("<Q", told, 24)[0]
        with mmap.mmap(node, BUFFER, offset=offset) as memory:
            memory[:8] = b"xdnatest"
            if memory[:8] != b"xdnatest":
                raise OSError(errno.EIO, "the buffer does not hold what was written")
    finally:
        fcntl.ioctl(node, IOCTL_GEM_CLOSE, struct.pack("<II", handle, 0))


PARTS = (config, refusals, dkms, signing, groups, log, test)


def probe() -> dict[str, Any]:
    """Every part by its name; a part that fails says so under "errors" and hides no other."""
    facts: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for part in PARTS:
        try:
            facts[part.__name__] = part()
        except Exception as error:  # noqa: BLE001 - an odd machine may break one part; the rest is still wanted
            errors[part.__name__] = repr(error)[:300]
    return {**facts, "errors": errors}


if __name__ == "__main__":
    json.dump(probe(), sys.stdout)
    sys.stdout.write("\n")
