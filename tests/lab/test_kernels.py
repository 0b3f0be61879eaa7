"""Debian's kernels by version, in each of the layouts that Debian used."""

from __future__ import annotations

from pathlib import Path

import pytest
from mirror import Mirror, simple_deb

from lab.machine import LabError
from lab.packages.store import PackageStore
from lab.virtual.kernels import UnknownKernelError, available, cached_kernels, kernel
from lab.virtual.modules import module_closure

SIGNED = "pool/main/l/linux-signed-amd64"
POOL = "pool/main/l/linux"
DEP = b"kernel/amdxdna.ko.xz: kernel/gpu-sched.ko.xz kernel/drm.ko.xz\nkernel/drm.ko.xz:\n"


def add_kernel(
    mirror: Mirror, version: str, *, listed: bool = True, pool: bool = True, claims: str = ""
) -> None:
    """One kernel as Debian lays it out for its version; the modules package can lack in index or pool."""
    release, debian = f"{version}+deb13-amd64", f"{version}-1~bpo13+1"
    major, minor = (int(number) for number in version.split(".")[:2])
    modules = {f"usr/lib/modules/{release}/modules.dep": DEP}
    boot = {f"boot/vmlinuz-{release}": version.encode()}
    if (major, minor) >= (7, 2):
        boot = {f"usr/lib/modules/{release}/vmlinuz": version.encode()}
    suite = "trixie-backports"
    image = f"linux-image-{release}"
    if (major, minor) < (6, 19):
        deb = simple_deb(boot | modules, name=image, version=debian)
        mirror.add(suite, image, deb, version=debian, folder=SIGNED)
        return
    parts = {"binary": boot, "modules": modules, "base": {f"usr/lib/modules/{release}/modules.builtin": b""}}
    needs = ", ".join(f"linux-{part}-{release} (= {debian})" for part in parts)
    mirror.add(suite, image, simple_deb({}, name=image), version=debian, depends=needs, folder=SIGNED)
    for part, files in parts.items():
        name = f"linux-{part}-{release}"
        deb = simple_deb(files, name=claims or name, version=debian)
        where = SIGNED if part == "binary" else POOL
        path = mirror.add(
            suite, name, deb, version=debian, folder=where, listed=listed or part == "binary"
        )  # fmt: skip
        if not pool and part != "binary":
            del mirror.files[path]


def store(mirror: Mirror, tmp_path: Path) -> PackageStore:
    mirror.publish("trixie")
    return PackageStore(tmp_path, mirror.address)


@pytest.mark.parametrize("version", ["6.18.15", "6.19.14", "7.1.13", "7.3.4"])
def test_every_layout_gives_a_kernel_and_its_modules(mirror: Mirror, tmp_path: Path, version: str) -> None:
    add_kernel(mirror, version)
    found = kernel(store(mirror, tmp_path), version)
    assert found.vmlinuz.read_bytes() == version.encode()
    assert found.release == f"{version}+deb13-amd64"
    assert found.modules.name == found.release
    assert (found.modules / "modules.dep").read_bytes() == DEP
    assert "unchecked" not in found.detail


def test_modules_that_the_index_dropped_come_from_the_pool_and_say_so(mirror: Mirror, tmp_path: Path) -> None:
    add_kernel(mirror, "7.0.13", listed=False)
    found = kernel(store(mirror, tmp_path), "7.0.13")
    assert "linux-modules-7.0.13+deb13-amd64" in found.detail["unchecked"]
    assert "linux-binary" not in found.detail["unchecked"]


def test_a_pool_file_that_is_another_package_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    add_kernel(mirror, "7.0.13", listed=False, claims="something-else")
    with pytest.raises(LabError, match="holds something-else"):
        kernel(store(mirror, tmp_path), "7.0.13")


def test_modules_that_are_nowhere_any_more_are_named(mirror: Mirror, tmp_path: Path) -> None:
    add_kernel(mirror, "7.0.13", listed=False, pool=False)
    with pytest.raises(LabError, match="neither in the index nor in the pool"):
        kernel(store(mirror, tmp_path), "7.0.13")
    assert cached_kernels(tmp_path) == []


def test_an_unknown_version_lists_what_there_is(mirror: Mirror, tmp_path: Path) -> None:
    for version in ("7.10.1", "7.3.4", "6.18.15"):
        add_kernel(mirror, version)
    mirror.add("trixie-backports", "linux-image-7.3.4+deb13-cloud-amd64", b"", version="7.3.4-1~bpo13+1")
    mirror.add("trixie-backports", "linux-image-6.17.1+deb13-amd64", b"", version="6.17.1-1~bpo13+1")
    mirror.add("trixie-backports", "linux-image-amd64", b"", version="7.3.4-1~bpo13+1")
    with pytest.raises(UnknownKernelError, match=r"available: 6\.18\.15, 7\.3\.4, 7\.10\.1$") as caught:
        kernel(store(mirror, tmp_path), "9.9.9")
    assert caught.value.exit_code == 2


def test_a_kernel_in_the_cache_needs_no_mirror(mirror: Mirror, tmp_path: Path) -> None:
    add_kernel(mirror, "7.3.4")
    first = kernel(store(mirror, tmp_path), "7.3.4")
    asked = len(mirror.requests)
    mirror.stop()
    assert kernel(PackageStore(tmp_path, mirror.address), "7.3.4+deb13-amd64") == first
    assert cached_kernels(tmp_path) == [first]
    assert len(mirror.requests) == asked


def test_experimental_is_looked_into_only_when_asked(mirror: Mirror, tmp_path: Path) -> None:
    add_kernel(mirror, "7.3.4")
    mirror.add("experimental", "linux-image-7.4-amd64", b"", version="7.4~rc2-1~exp1")
    packages = store(mirror, tmp_path)
    assert [k.version for k in available(packages)] == ["7.3.4"]
    assert [k.version for k in available(packages, experimental=True)] == ["7.3.4", "7.4~rc2"]


def test_a_damaged_cache_entry_says_what_to_remove(mirror: Mirror, tmp_path: Path) -> None:
    add_kernel(mirror, "7.3.4")
    found = kernel(store(mirror, tmp_path), "7.3.4")
    record = tmp_path / "kernels" / found.release / "candidate.json"
    record.write_text("{")
    with pytest.raises(LabError, match="remove the folder"):
        kernel(PackageStore(tmp_path, mirror.address), "7.3.4")


def test_modules_load_in_the_order_of_their_needs(tmp_path: Path) -> None:
    """modules.dep lists a module's needs deepest last; built-in modules are not in it."""
    (tmp_path / "modules.dep").write_bytes(
        DEP + b"kernel/gpu-sched.ko.xz: kernel/drm.ko.xz\nkernel/virtio_net.ko.xz: kernel/failover.ko.xz\n"
    )
    order = module_closure(tmp_path, ("virtio_net", "builtin_one", "amdxdna"))
    assert [path.rpartition("/")[2] for path in order] == [
        "failover.ko.xz", "virtio_net.ko.xz", "drm.ko.xz", "gpu-sched.ko.xz", "amdxdna.ko.xz",
    ]  # fmt: skip
