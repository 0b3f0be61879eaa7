"""A kernel of one's own, in the layouts in which people have one."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from harness.kernels.named import named_kernel
from lab.machine import LabError
from lab.packages.store import PackageStore
from lab.virtual.kernel_folder import KernelFolderError, folder_kernel, image_release, is_path

RELEASE = "7.4.0-rc2-mine"


def bzimage(path: Path, release: str = RELEASE) -> Path:
    """The head of a bzImage that says its release."""
    head = bytearray(0x1000)
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", head, 0x20E, 0x400)
    text = f"{release} (me@host) #1 SMP".encode()
    head[0x600 : 0x600 + len(text)] = text
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head)
    return path


def modules(folder: Path, release: str = RELEASE, *, base: str = "lib/modules") -> Path:
    place = folder / base / release
    (place / "kernel").mkdir(parents=True)
    (place / "kernel/amdxdna.ko").write_bytes(b"module")
    (place / "modules.dep").write_text("kernel/amdxdna.ko:\n")
    return place


@pytest.fixture
def store(tmp_path: Path) -> PackageStore:
    return PackageStore(tmp_path / "cache", "http://127.0.0.1:9/nothing-is-fetched")


@pytest.mark.parametrize(
    ("image", "base"),
    [
        ("boot/vmlinuz-7.4.0-rc2-mine", "lib/modules"),  # INSTALL_PATH, INSTALL_MOD_PATH, old Debian packages
        (f"usr/lib/modules/{RELEASE}/vmlinuz", "usr/lib/modules"),  # Debian since 7.2
        ("arch/x86/boot/bzImage", "lib/modules"),  # a build tree
        ("bzImage", "."),
    ],
)
def test_every_layout_is_found_from_the_folder(
    store: PackageStore, tmp_path: Path, image: str, base: str
) -> None:
    folder = tmp_path / "k"
    modules(folder, base=base)
    bzimage(folder / image)
    found = folder_kernel(store, str(folder))
    assert (found.release, found.version) == (RELEASE, "7.4.0-rc2")
    assert found.vmlinuz == folder / image
    assert (found.modules / "modules.dep").is_file()
    assert found.detail["path"] == str(folder)
    assert folder_kernel(store, str(folder / image)) != found, "named by another path"
    assert folder_kernel(store, str(folder / image)).origin == found.origin, "yet the same kernel"


def test_another_build_of_the_same_release_is_another_kernel(store: PackageStore, tmp_path: Path) -> None:
    modules(tmp_path / "k")
    image = bzimage(tmp_path / "k/bzImage")
    first = folder_kernel(store, str(tmp_path / "k"))
    image.write_bytes(image.read_bytes() + b"rebuilt")
    assert folder_kernel(store, str(tmp_path / "k")).origin != first.origin


def test_what_is_no_kernel_says_what_was_looked_for(store: PackageStore, tmp_path: Path) -> None:
    folder = tmp_path / "k"
    with pytest.raises(KernelFolderError, match="does not exist"):
        folder_kernel(store, str(folder))
    folder.mkdir()
    with pytest.raises(KernelFolderError, match=r"no bzImage in .*looked for"):
        folder_kernel(store, str(folder))
    image = bzimage(folder / "bzImage")
    with pytest.raises(KernelFolderError, match=r"no modules of 7\.4\.0-rc2-mine.*modules_install"):
        folder_kernel(store, str(folder))
    modules(folder, "7.4.0-rc2-other")
    with pytest.raises(KernelFolderError, match=r"no modules of 7\.4\.0-rc2-mine"):
        folder_kernel(store, str(image))
    image.write_bytes(b"\x7fELF" + bytes(0x1000))
    with pytest.raises(KernelFolderError, match="no bzImage"):
        image_release(image)
    bzimage(folder / "boot/vmlinuz-1")
    bzimage(folder / "boot/vmlinuz-2")
    image.unlink()
    with pytest.raises(KernelFolderError, match="several kernels") as caught:
        folder_kernel(store, str(folder))
    assert caught.value.exit_code == 2


def test_hostile_headers_are_refused(store: PackageStore, tmp_path: Path) -> None:
    image = bzimage(tmp_path / "bzImage", "x" * 500)
    with pytest.raises(KernelFolderError, match="no kernel release"):
        folder_kernel(store, str(image))
    data = bytearray(image.read_bytes())
    struct.pack_into("<H", data, 0x20E, 0xFFFF)
    image.write_bytes(data)
    with pytest.raises(KernelFolderError, match="does not say its release"):
        image_release(image)
    image.write_bytes(b"")
    with pytest.raises(KernelFolderError, match="no bzImage"):
        image_release(image)


def test_a_path_has_a_slash_and_a_version_has_none(store: PackageStore, tmp_path: Path) -> None:
    assert is_path("./linux")
    assert is_path("/tmp/k/bzImage")
    assert not is_path("7.3-rc7")
    modules(tmp_path)
    bzimage(tmp_path / "bzImage")
    assert named_kernel(store, f"{tmp_path}/bzImage").release == RELEASE
    with pytest.raises(LabError, match="nothing-is-fetched"):
        named_kernel(store, "7.3.4")
