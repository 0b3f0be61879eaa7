"""Downloads go on where they broke, and only what has the right checksum gets its name."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from mirror import Mirror

from lab.machine import LabError
from lab.packages.download import DownloadError, NotOnMirrorError, download, new_client

CONTENT = bytes(range(256)) * 2000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def get(mirror: Mirror, target: Path, **more: object) -> Path:
    with new_client() as client:
        options = {"sha256": DIGEST, "size": len(CONTENT)} | more
        return download(client, f"{mirror.address}/f", target, **options).path  # type: ignore[arg-type]


def test_a_broken_connection_is_resumed_where_it_broke(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["f"] = CONTENT
    mirror.cut["f"] = 300_000
    assert get(mirror, tmp_path / "f").read_bytes() == CONTENT
    assert mirror.fetched("f") == [None, "bytes=300000-"]
    assert not (tmp_path / "f.part").exists()


def test_a_part_of_an_earlier_process_is_continued(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["f"] = CONTENT
    (tmp_path / "f.part").write_bytes(CONTENT[:1000])
    assert get(mirror, tmp_path / "f").read_bytes() == CONTENT
    assert mirror.fetched("f") == ["bytes=1000-"]


def test_a_server_without_ranges_sends_all_again(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["f"] = CONTENT
    mirror.ranges = False
    (tmp_path / "f.part").write_bytes(b"x" * 1000)
    assert get(mirror, tmp_path / "f").read_bytes() == CONTENT


@pytest.mark.parametrize("length", [1000, len(CONTENT), len(CONTENT) + 5])
def test_a_stale_part_of_another_file_costs_one_more_download(
    mirror: Mirror, tmp_path: Path, length: int
) -> None:
    mirror.files["f"] = CONTENT
    (tmp_path / "f.part").write_bytes(b"x" * length)
    assert get(mirror, tmp_path / "f").read_bytes() == CONTENT


def test_a_wrong_checksum_leaves_no_file_under_the_final_name(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["f"] = b"y" * len(CONTENT)
    with pytest.raises(DownloadError, match="SHA-256"):
        get(mirror, tmp_path / "f")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_checksum_is_reported_as_unchecked(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["f"] = CONTENT
    with new_client() as client:
        fetched = download(client, f"{mirror.address}/f", tmp_path / "f", sha256=None)
    assert (fetched.sha256, fetched.checked) == (DIGEST, False)


def test_a_missing_file_and_an_absent_mirror_are_told_apart(mirror: Mirror, tmp_path: Path) -> None:
    with pytest.raises(NotOnMirrorError):
        get(mirror, tmp_path / "f")
    mirror.stop()
    with pytest.raises(DownloadError, match="resumes") as caught:
        get(mirror, tmp_path / "f")
    assert not isinstance(caught.value, NotOnMirrorError)


def test_progress_counts_from_the_resumed_byte_to_the_end(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["f"] = CONTENT
    (tmp_path / "f.part").write_bytes(CONTENT[:1000])
    seen: list[tuple[str, int, int | None]] = []
    get(mirror, tmp_path / "f", progress=lambda *step: seen.append(step))
    assert seen[0][1] > 1000
    assert seen[-1] == ("f", len(CONTENT), len(CONTENT))


def test_a_folder_that_cannot_be_written_is_a_lab_error(mirror: Mirror, tmp_path: Path) -> None:
    mirror.files["f"] = CONTENT
    (tmp_path / "f.part").mkdir()
    with pytest.raises(LabError):
        get(mirror, tmp_path / "f")
