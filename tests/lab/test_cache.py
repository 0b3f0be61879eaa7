"""The cache is shared by processes; temporary folders do not pile up."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from lab.cache import KEPT_UNUSED, build_folder, locked, remove_unused, write_atomically
from lab.machine import LabError
from lab.workfolder import sweep, work_folder


def test_two_builders_of_one_folder_build_it_once(tmp_path: Path) -> None:
    built: list[int] = []

    def fill(folder: Path) -> None:
        built.append(1)
        time.sleep(0.2)
        (folder / "x").write_text("x")

    target = tmp_path / "trees" / "t"
    threads = [threading.Thread(target=build_folder, args=(tmp_path, target, fill)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert built == [1]
    assert (target / "x").read_text() == "x"


def test_a_killed_builder_leaves_a_folder_that_the_next_one_removes(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from lab.cache import build_folder\n"
        "def fill(folder):\n"
        "    (folder / 'half').write_text('x'); print('filling', flush=True); time.sleep(600)\n"
        "cache = Path(sys.argv[1]); build_folder(cache, cache / 'trees' / 't', fill)\n"
    )
    killed = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert killed.stdout is not None
    assert killed.stdout.readline() == b"filling\n"
    killed.kill()
    killed.communicate()
    assert len(list((tmp_path / "trees").iterdir())) == 1
    build_folder(tmp_path, tmp_path / "trees" / "t", lambda folder: (folder / "whole").touch())
    assert [p.relative_to(tmp_path).as_posix() for p in (tmp_path / "trees").rglob("*")] == [
        "trees/t", "trees/t/whole",
    ]  # fmt: skip


def test_a_failed_build_is_a_lab_error_and_leaves_nothing(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "x").write_text("x")
        raise OSError(28, "No space left on device")

    with pytest.raises(LabError, match="No space left"):
        build_folder(tmp_path, tmp_path / "trees" / "t", fill)
    assert list((tmp_path / "trees").iterdir()) == []


def test_waiting_for_a_lock_has_an_end(tmp_path: Path) -> None:
    with (
        locked(tmp_path, "a"),
        pytest.raises(LabError, match="another process"),
        locked(tmp_path, "a", timeout=0.2),
    ):
        pass
    with locked(tmp_path, "a", timeout=0.2):
        pass


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(LabError, match="cannot be written"), locked(tmp_path / "cache", "a"):
        pass


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "sub" / "f"
    write_atomically(target, b"one")
    write_atomically(target, b"two", mode=0o600)
    assert target.read_bytes() == b"two"
    assert target.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in target.parent.iterdir()] == ["f"]


def test_only_folders_of_dead_processes_are_swept(tmp_path: Path) -> None:
    old = time.time() - 3600
    dead = tmp_path / "xdnw-dead"
    dead.mkdir()
    (dead / "initramfs").write_text("x")
    os.utime(dead, (old, old))
    with work_folder(tmp_path) as mine:
        os.utime(mine, (old, old))
        (tmp_path / "xdnw-young").mkdir()
        (tmp_path / "other").mkdir()
        sweep(tmp_path)
        assert sorted(p.name for p in tmp_path.iterdir()) == sorted([mine.name, "xdnw-young", "other"])
    assert not mine.exists()


def test_sockets_have_room_also_where_the_temporary_folder_lies_deep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("deep" * 25)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with work_folder() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "m.1234567890123456"))  # as ssh does before it listens at "m"
        assert not folder.is_relative_to(deep)
    assert not folder.exists()


def test_what_other_inputs_made_goes_when_nobody_used_it_for_days(tmp_path: Path) -> None:
    for name in ("old", "young", "mine"):
        (tmp_path / f"{name}-folder" / "inner").mkdir(parents=True)
        (tmp_path / f"{name}-folder" / "inner" / "file").write_text("x")
        (tmp_path / f"{name}-file").write_text("x")
    long_ago = time.time() - KEPT_UNUSED - 60
    for name in ("old-folder", "old-file", "mine-folder"):
        os.utime(tmp_path / name, (long_ago, long_ago))
    remove_unused([*tmp_path.iterdir(), tmp_path / "gone"], but=tmp_path / "mine-folder")
    assert {path.name for path in tmp_path.iterdir()} == {
        "young-folder", "young-file", "mine-folder", "mine-file",
    }  # fmt: skip
