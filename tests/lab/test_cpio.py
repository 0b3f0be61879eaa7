"""The archive that the kernel unpacks: read back here by a reader of the documented format."""

from __future__ import annotations

import io
import stat
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lab.virtual.cpio import CpioWriter

Entry = tuple[str, int, tuple[int, int], tuple[int, int], bytes]


def entries(archive: bytes) -> list[Entry]:
    """(name, mode, owner, device, data) of each entry before the trailer."""
    found: list[Entry] = []
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        assert at % 4 == 0
        values = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        _ino, mode, uid, gid, links, _time, size, _ma, _mi, major, minor, namesize, check = values
        assert (links, check) == (1, 0)
        name = archive[at + 110 : at + 110 + namesize]
        assert name.endswith(b"\0")
        start = -(-(at + 110 + namesize) // 4) * 4
        at = -(-(start + size) // 4) * 4
        if name == b"TRAILER!!!\0":
            assert at == len(archive)
            return found
        found.append((name[:-1].decode(), mode, (uid, gid), (major, minor), archive[start : start + size]))


NAMES = st.text(
    st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), min_size=1, max_size=40
)


@given(
    st.lists(
        st.tuples(
            NAMES.filter(lambda name: name != "TRAILER!!!"),
            st.integers(0, 0o177777),
            st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)),
            st.tuples(st.integers(0, 4095), st.integers(0, 2**20 - 1)),
            st.binary(max_size=50),
        ),
        max_size=8,
    )
)
def test_every_entry_reads_back(
    wanted: list[Entry],
) -> None:
    out = io.BytesIO()
    writer = CpioWriter(out)
    for name, mode, owner, device, data in wanted:
        writer.add(name, mode, data, owner=owner, device=device)
    writer.finish()
    assert entries(out.getvalue()) == wanted


def test_a_tree_is_packed_in_order_with_links_permissions_and_owners(tmp_path: Path) -> None:
    (tmp_path / "home/user").mkdir(parents=True)
    (tmp_path / "home/user/key").write_bytes(b"k")
    (tmp_path / "home/user/key").chmod(0o600)
    (tmp_path / "bin").symlink_to("usr/bin")
    out = io.BytesIO()
    writer = CpioWriter(out)
    writer.add_tree(tmp_path, lambda name: (1000, 1000) if name.startswith("home/user") else (0, 0))
    writer.finish()
    assert [(name, oct(mode), owner, data) for name, mode, owner, _, data in entries(out.getvalue())] == [
        ("bin", oct(stat.S_IFLNK | 0o777), (0, 0), b"usr/bin"),
        ("home", oct(stat.S_IFDIR | 0o755), (0, 0), b""),
        ("home/user", oct(stat.S_IFDIR | 0o755), (1000, 1000), b""),
        ("home/user/key", oct(stat.S_IFREG | 0o600), (1000, 1000), b"k"),
    ]
