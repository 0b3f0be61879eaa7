"""Unpacking: every compression, merged usr, and nothing outside the folder whatever the package tries."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from mirror import deb_of, file_entry, link_entry, simple_deb, tar_of

from lab.packages.archive import PackageError, check_identity, unpack


def unpacked(tmp_path: Path, deb: bytes) -> Path:
    file = tmp_path / "p.deb"
    file.write_bytes(deb)
    folder = tmp_path / "root"
    folder.mkdir(exist_ok=True)
    unpack(file, folder)
    return folder


@pytest.mark.parametrize("compression", ["", ".gz", ".xz", ".zst"])
def test_every_compression_of_data_tar_is_read(tmp_path: Path, compression: str) -> None:
    data = tar_of([file_entry("./usr/bin/x", 0o755)], {"./usr/bin/x": b"program"})
    folder = unpacked(tmp_path, deb_of(data, compression=compression))
    assert (folder / "usr/bin/x").read_bytes() == b"program"
    assert (folder / "usr/bin/x").stat().st_mode & 0o777 == 0o755


def test_directories_of_old_layouts_are_merged_into_usr(tmp_path: Path) -> None:
    folder = unpacked(tmp_path, simple_deb({"lib/a": b"1", "bin/b": b"2", "sbin/c": b"3", "lib64/d": b"4"}))
    assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == [
        "usr/bin/b", "usr/lib/a", "usr/lib64/d", "usr/sbin/c",
    ]  # fmt: skip


def test_links_are_kept_and_set_user_id_is_not(tmp_path: Path) -> None:
    data = tar_of(
        [
            file_entry("./usr/bin/su", 0o4755),
            link_entry("./usr/bin/hard", "./usr/bin/su", tarfile.LNKTYPE),
            link_entry("./usr/lib/libx.so", "libx.so.1"),
            link_entry("./etc/alternatives/x", "/usr/bin/su"),
        ],
        {"./usr/bin/su": b"su"},
    )
    folder = unpacked(tmp_path, deb_of(data))
    assert (folder / "usr/bin/su").stat().st_mode & 0o7777 == 0o755
    assert (folder / "usr/bin/hard").read_bytes() == b"su"
    assert str((folder / "usr/lib/libx.so").readlink()) == "libx.so.1"
    assert str((folder / "etc/alternatives/x").readlink()) == "/usr/bin/su"


@pytest.mark.parametrize("name", ["../evil", "./usr/../../evil", "/evil"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(PackageError, match="outside"):
        unpacked(tmp_path, deb_of(tar_of([file_entry(name)], {name: b"x"})))
    assert not (tmp_path / "evil").exists()
    assert not Path("/evil").exists()


@pytest.mark.parametrize("target", ["..", "../..", "ABSOLUTE"])
def test_writing_through_a_link_out_of_the_folder_is_refused(tmp_path: Path, target: str) -> None:
    """A link is harmless until a later member is written through it."""
    aim = str(tmp_path) if target == "ABSOLUTE" else target
    data = tar_of([link_entry("./var/door", aim), file_entry("./var/door/evil")], {"./var/door/evil": b"x"})
    if target == "..":  # leads to the folder itself: inside
        assert (unpacked(tmp_path, deb_of(data)) / "evil").exists()
        return
    with pytest.raises(PackageError, match="through the link"):
        unpacked(tmp_path, deb_of(data))
    assert not (tmp_path / "evil").exists()


def test_a_directory_through_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("./var/door/made")
    entry.type = tarfile.DIRTYPE
    with pytest.raises(PackageError, match="through the link"):
        unpacked(tmp_path, deb_of(tar_of([link_entry("./var/door", str(tmp_path)), entry], {})))
    assert not (tmp_path / "made").exists()


def test_a_hard_link_to_a_file_outside_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    data = tar_of([link_entry("./x", "../secret", tarfile.LNKTYPE)], {})
    with pytest.raises(PackageError):
        unpacked(tmp_path, deb_of(data))


@pytest.mark.parametrize("damage", ["truncated", "garbage", "no data"])
def test_a_damaged_package_is_named(tmp_path: Path, damage: str) -> None:
    whole = simple_deb({"usr/x": bytes(5000)})
    deb = {"truncated": whole[:-40], "garbage": b"<html>404</html>", "no data": whole[:8]}[damage]
    with pytest.raises(PackageError, match=r"p\.deb"):
        unpacked(tmp_path, deb)


def test_a_package_says_who_it_is(tmp_path: Path) -> None:
    file = tmp_path / "p.deb"
    file.write_bytes(simple_deb({"x": b""}, name="linux-modules-1", version="1.0-1"))
    check_identity(file, "linux-modules-1", "1.0-1")
    with pytest.raises(PackageError, match="holds linux-modules-1"):
        check_identity(file, "linux-modules-1", "1.0-2")
