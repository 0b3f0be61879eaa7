"""Optional guest layers: built from packages once, aligned behind what is there, named in boot facts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from lab.machine import LabError
from lab.settings import MachineSettings
from lab.virtual.extras import append_archives, layer_image
from lab.virtual.layers import XRT, Layer, layer

SMALL = Layer("small", ("suite",), ("one",), trimmed=("usr/share/doc", "packages.json"))


class Store:
    """A package store whose trees are made on the spot."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.version = "1.0"
        self.excluded: list[str] = []

    def tree(
        self, kind: str, suites: Sequence[str], roots: Sequence[str], *, exclude: Sequence[str] = ()
    ) -> Path:
        root = self.cache / f"{kind}-{self.version}"
        names = ["base-files"] if kind == "guest" else ["one"]
        if kind != "guest":
            self.excluded = list(exclude)
        for name, content in (("usr/bin/one", "x" * 5), ("usr/share/doc/one/readme", "long")):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(content)
        listing = [{"name": name, "version": self.version} for name in names]
        (root / "packages.json").write_text(json.dumps(listing))
        return root


def members(archive: bytes) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a newc archive."""
    at = 0
    while at < len(archive):
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        size, name_size = fields[6], fields[11]
        name = archive[at + 110 : at + 110 + name_size - 1].decode()
        at += (110 + name_size + 3) & ~3
        if name == "TRAILER!!!":
            return
        yield name, archive[at : at + size]
        at += (size + 3) & ~3


def test_a_layer_is_built_once_for_each_content(tmp_path: Path) -> None:
    """Trimmed, without what the base has, found again by its content, rebuilt when a version changes."""
    store = Store(tmp_path)
    first = layer_image(store, SMALL)  # type: ignore[arg-type]  # the methods that are used
    found = dict(members(first.archive.read_bytes()))
    assert found["usr/bin/one"] == b"xxxxx"
    assert not any(name.startswith("usr/share/doc") or name == "packages.json" for name in found)
    assert "base-files" in store.excluded
    assert first.fact == f"small 1.0 ({first.digest})"
    made = first.archive.stat().st_mtime_ns
    again = layer_image(store, SMALL)  # type: ignore[arg-type]
    assert (again.archive, again.archive.stat().st_mtime_ns) == (first.archive, made)
    store.version = "1.1"
    assert layer_image(store, SMALL).digest != first.digest  # type: ignore[arg-type]
    assert layer_image(store, replace(SMALL, trimmed=())).digest != again.digest  # type: ignore[arg-type]


def test_archives_begin_where_the_kernel_looks_for_them(tmp_path: Path) -> None:
    """Each on a multiple of four bytes, whatever lies before it."""
    initramfs, one = tmp_path / "initramfs", tmp_path / "one"
    initramfs.write_bytes(b"12345")
    one.write_bytes(b"070701")
    append_archives(initramfs, [one, one])
    assert initramfs.read_bytes() == b"12345" + bytes(3) + b"070701" + bytes(2) + b"070701"


def test_an_unknown_layer_is_refused_where_it_is_named() -> None:
    """In code and in the settings; a real machine has no layers."""
    with pytest.raises(LabError, match="there are xrt"):
        layer("xtr")
    with pytest.raises(ValueError, match="no guest layer 'xtr'"):
        MachineSettings(name="a", virtual="npu4", layers=("xtr",))
    with pytest.raises(ValueError, match="are for virtual machines"):
        MachineSettings(name="a", ssh="me@minipc", layers=("xrt",))
    assert MachineSettings(name="a", virtual="npu4", layers=("xrt",)).layers == ("xrt",)


def test_the_xrt_layer_prefers_backports() -> None:
    """The main suite has an unrelated package of the name python3-xrt."""
    assert XRT.suites[0] == "trixie-backports"
    assert "python3-xrt" in XRT.roots
