"""Index, closure and store on a mirror that changes, lies and disappears."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from mirror import Mirror, simple_deb

from lab.machine import LabError
from lab.packages.closure import closure
from lab.packages.download import DownloadError
from lab.packages.index import open_index
from lab.packages.store import PackageStore


def test_the_closure_follows_alternatives_virtual_packages_and_exclusions(
    mirror: Mirror, tmp_path: Path
) -> None:
    """root -> (b | c), virtual; b -> d:any (>= 1); virtual <- provider; excluded keeps its own needs out."""
    for name, depends, provides in (
        ("root", "b (>= 1) | c, virtual, excluded, absent", ""),
        ("b", "d:any (>= 1)", ""),
        ("c", "", ""),
        ("d", "root", ""),
        ("provider", "", "other, virtual (= 3)"),
        ("excluded", "only-by-excluded", ""),
        ("only-by-excluded", "", ""),
    ):
        mirror.add("trixie", name, simple_deb({name: b""}), depends=depends, provides=provides)
    index = open_index(tmp_path, mirror.address, "trixie")
    names = [p.name for p in closure([index], ["root"], exclude=["excluded"])]
    assert sorted(names) == ["b", "d", "provider", "root"]
    with pytest.raises(LabError, match="nonesuch"):
        closure([index], ["nonesuch"])


def test_the_preferred_suite_wins(mirror: Mirror, tmp_path: Path) -> None:
    mirror.add("trixie", "q", simple_deb({"v": b"1"}), version="1")
    mirror.add("trixie-backports", "q", simple_deb({"v": b"2"}), version="2")
    store = PackageStore(tmp_path, mirror.address)
    tree = store.tree("t", ["trixie-backports", "trixie"], ["q"])
    assert (tree / "v").read_bytes() == b"2"
    assert [p["version"] for p in json.loads((tree / "packages.json").read_text())] == ["2"]


def test_a_fresh_index_asks_nothing_and_an_old_one_asks_only_for_the_release(
    mirror: Mirror, tmp_path: Path
) -> None:
    mirror.add("trixie", "q", simple_deb({"v": b""}))
    open_index(tmp_path, mirror.address, "trixie")
    asked = len(mirror.requests)
    open_index(tmp_path, mirror.address, "trixie")
    assert len(mirror.requests) == asked
    os.utime(tmp_path / "indices" / "trixie.sqlite", (0, 0))
    open_index(tmp_path, mirror.address, "trixie")
    assert [path for path, _ in mirror.requests[asked:]] == ["dists/trixie/InRelease"]


def test_a_changed_index_is_seen_and_an_unreachable_mirror_leaves_the_old_one(
    mirror: Mirror, tmp_path: Path
) -> None:
    mirror.add("trixie", "q", simple_deb({"v": b""}), version="1")
    open_index(tmp_path, mirror.address, "trixie")
    mirror.add("trixie", "r", simple_deb({"v": b""}), version="2")
    index = open_index(tmp_path, mirror.address, "trixie", fresh=0.0)
    found = index.get("r")
    assert found is not None
    assert found.version == "2"
    mirror.stop()
    assert open_index(tmp_path, mirror.address, "trixie", fresh=0.0).get("q") is not None
    with pytest.raises(DownloadError):
        open_index(tmp_path, mirror.address, "sid")


def test_an_index_that_is_not_what_the_release_says_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    mirror.add("trixie", "q", simple_deb({"v": b""}))
    mirror.files["dists/trixie/main/binary-amd64/Packages.xz"] += b"\0"
    with pytest.raises(DownloadError, match="SHA-256"):
        open_index(tmp_path, mirror.address, "trixie")


def test_a_signature_is_checked_where_the_machine_can(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A good one is recorded, a broken one refused, an unknown key recorded as not verified."""
    if shutil.which("gpg") is None or shutil.which("gpgv") is None:
        pytest.skip("no gpg or no gpgv on this machine")
    home = tmp_path / "gnupg"
    home.mkdir(mode=0o700)

    def gpg(*words: str, stdin: bytes = b"") -> bytes:
        command = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--passphrase", "", *words]
        return subprocess.run(command, input=stdin, capture_output=True, check=True, timeout=60).stdout

    gpg("--quick-generate-key", "Test Archive <test@example.org>", "ed25519", "sign", "never")
    known, unknown = tmp_path / "known.gpg", tmp_path / "unknown.gpg"
    known.write_bytes(gpg("--export"))
    unknown.write_bytes(b"")
    mirror.add("trixie", "q", simple_deb({"v": b""}))
    signed = gpg("--clearsign", stdin=mirror.files["dists/trixie/InRelease"])
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True, timeout=60)
    mirror.files["dists/trixie/InRelease"] = signed
    monkeypatch.setattr("lab.packages.index.KEYRING", known)
    assert open_index(tmp_path / "a", mirror.address, "trixie").fact("signed") == "yes"
    monkeypatch.setattr("lab.packages.index.KEYRING", unknown)
    assert "keyring" in open_index(tmp_path / "b", mirror.address, "trixie").fact("signed")
    monkeypatch.setattr("lab.packages.index.KEYRING", known)
    mirror.files["dists/trixie/InRelease"] = signed.replace(b"Suite: trixie", b"Suite: trixiE")
    with pytest.raises(DownloadError, match="do not trust"):
        open_index(tmp_path / "c", mirror.address, "trixie")


def test_a_suite_name_cannot_be_a_path(mirror: Mirror, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="suite"):
        open_index(tmp_path, mirror.address, "../../etc")


def test_a_tree_is_used_again_without_the_mirror(mirror: Mirror, tmp_path: Path) -> None:
    mirror.add("trixie", "q", simple_deb({"v": b"1"}))
    first = PackageStore(tmp_path, mirror.address).tree("t", ["trixie"], ["q"])
    mirror.stop()
    assert PackageStore(tmp_path, "http://127.0.0.1:9/none").tree("t", ["trixie"], ["q"]) == first


def test_an_interrupted_tree_leaves_nothing_under_its_name(mirror: Mirror, tmp_path: Path) -> None:
    mirror.add("trixie", "q", simple_deb({"v": b"1"}))
    bad = mirror.add("trixie", "z", b"no package at all")
    store = PackageStore(tmp_path, mirror.address)
    with pytest.raises(LabError, match="z_1_amd64"):
        store.tree("t", ["trixie"], ["q", "z"])
    assert list((tmp_path / "trees").iterdir()) == []
    assert (tmp_path / "debs" / Path(bad).name).exists()


def test_a_package_found_only_in_the_pool_is_recorded_as_unchecked(mirror: Mirror, tmp_path: Path) -> None:
    path = mirror.add("trixie", "old", simple_deb({"v": b""}), listed=False)
    store = PackageStore(tmp_path, mirror.address)
    assert store.fetch_file(path, sha256=None).checked == "pool"
    mirror.stop()
    assert store.fetch_file(path, sha256=None).checked == "pool"  # kept for good


def test_a_cached_package_of_another_build_is_fetched_again(mirror: Mirror, tmp_path: Path) -> None:
    """Debian may rebuild a version in a suite of ours; the listed checksum decides."""
    mirror.add("trixie", "q", simple_deb({"v": b"1"}))
    store = PackageStore(tmp_path, mirror.address)
    package = store.index("trixie").get("q")
    assert package is not None
    store.fetch([package])
    mirror.add("trixie", "q", simple_deb({"v": b"2"}))
    newer = open_index(tmp_path, mirror.address, "trixie", fresh=0.0).get("q")
    assert newer is not None
    (deb,) = store.fetch([newer])
    assert deb.sha256 == newer.sha256 != package.sha256
