"""The guest need not compile Python: neither its own standard library nor what is sent to it."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.packages.store import PackageStore
from lab.virtual.bytecode import PYTHON, bytecode
from lab.virtual.guest import guest_image

pytestmark = pytest.mark.qemu  # it needs the guest's packages, though it boots nothing

UNCHECKED_HASH = 1  # PEP 552: the flags of byte code that is taken whatever the source's time is


@pytest.fixture(scope="module")
def store(lab_cache: Path) -> PackageStore:
    return PackageStore(lab_cache, "http://127.0.0.1:9/the-cache-must-do")


def flags(data: bytes) -> int:
    """The second word of a .pyc file."""
    return int(struct.unpack_from("<I", data, 4)[0])


def entries(archive: Path) -> Iterator[tuple[str, bytes]]:
    """Names and the first bytes of a newc archive (cpio(5))."""
    data = archive.read_bytes()
    at = 0
    while True:
        assert data[at : at + 6] == b"070701", "no newc archive"
        words = [int(data[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        size, name_size = words[6], words[11]
        name = data[at + 110 : at + 109 + name_size].decode()
        begin = (at + 110 + name_size + 3) & ~3
        if name == "TRAILER!!!":
            return
        yield name, data[begin : begin + 16]
        at = (begin + size + 3) & ~3


def test_every_module_of_the_guest_s_python_is_compiled_for_any_time_of_its_source(
    store: PackageStore,
) -> None:
    found = dict(entries(guest_image(store).base))
    library = f"usr/lib/{PYTHON}/"
    modules = [name for name in found if name.startswith(library) and name.endswith(".py")]
    assert len(modules) > 300
    checked = {name: flags(data) for name, data in found.items() if name.endswith(".pyc")}
    assert set(checked.values()) == {UNCHECKED_HASH}, [
        name for name, kind in checked.items() if kind != UNCHECKED_HASH
    ][:5]
    top = [name for name in modules if "/" not in name.removeprefix(library)]
    missing = [
        name
        for name in top
        if f"{library}__pycache__/{Path(name).stem}.cpython-{PYTHON[6:].replace('.', '')}.pyc" not in checked
    ]
    assert not missing


def test_what_is_sent_comes_compiled_and_a_mistake_costs_its_own_file_alone(
    store: PackageStore, tmp_path: Path
) -> None:
    tree = guest_image(store).tree
    files = {"pack/good.py": b"VALUE = 6 * 7\n", "pack/bad.py": b"def (\n", "pack/notes.txt": b"text"}
    made = bytecode(tmp_path, tree, files)
    assert set(made) == {"pack/__pycache__/good.cpython-313.pyc"}
    assert flags(next(iter(made.values()))) == UNCHECKED_HASH
    assert bytecode(tmp_path, tree, files) == made, "the second time from the cache"
    other = bytecode(tmp_path, tree, {**files, "pack/good.py": b"VALUE = 43\n"})
    assert set(other) == set(made)
    assert other != made, "other sources, other code"
