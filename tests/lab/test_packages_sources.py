"""The mirror's address comes from apt's configuration, in both of its forms."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.machine import LabError
from lab.packages.sources import mirror_address

THIRD_PARTY = """\
Types: deb
URIs: http://other.example/apt
Suites: bookworm-pgdg nodistro
Components: main
"""


def write(apt: Path, name: str, text: str) -> Path:
    file = apt / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return apt


def test_deb822_sources_are_read_past_comments_and_third_parties(tmp_path: Path) -> None:
    write(tmp_path, "sources.list.d/a.sources", THIRD_PARTY)
    write(
        tmp_path,
        "sources.list.d/debian.sources",
        "Types: deb-src\nURIs: http://src.example/debian\nSuites: trixie\nComponents: main\n\n"
        "Types: deb\nEnabled: no\nURIs: http://off.example/debian\nSuites: trixie\nComponents: main\n\n"
        "Types: deb\n# a comment between fields\nURIs: http://sec.example/debian-security\n"
        "Suites: bookworm-security\nComponents: main\n\n"
        "Types: deb deb-src\nURIs: http://mirror.example/debian/\nSuites: bookworm bookworm-updates\n"
        "Components: main contrib\nSigned-By: /k.gpg\n",
    )
    assert mirror_address(apt=tmp_path) == "http://mirror.example/debian"


@pytest.mark.parametrize(
    "line",
    [
        "deb http://m.example/debian bookworm main",
        "  deb [arch=amd64 signed-by=/k.gpg] http://m.example/debian/ sid main contrib # why",
        "deb-src http://s.example/debian sid main\ndeb\thttp://m.example/debian stable-updates main",
        "#deb http://off.example/debian sid main\ndeb http://m.example/debian trixie-backports main",
        "deb cdrom:[x]/ trixie main\ndeb http://m.example/debian trixie main",
    ],
)
def test_one_line_lists_are_read(tmp_path: Path, line: str) -> None:
    assert mirror_address(apt=write(tmp_path, "sources.list", line)) == "http://m.example/debian"


def test_a_mirror_list_file_is_followed(tmp_path: Path) -> None:
    """Debian's cloud images name a file of mirrors instead of one."""
    listing = tmp_path / "mirrors" / "debian.list"
    write(tmp_path, "mirrors/debian.list", "# first\nhttps://cdn.example/debian priority:1\n")
    write(tmp_path, "sources.list", f"deb mirror+file:{listing} trixie main")
    assert mirror_address(apt=tmp_path) == "https://cdn.example/debian"


def test_a_setting_wins_and_must_be_an_address(tmp_path: Path) -> None:
    write(tmp_path, "sources.list", "deb http://m.example/debian trixie main")
    assert mirror_address("https://mine.example/d/", apt=tmp_path) == "https://mine.example/d"
    with pytest.raises(LabError, match="not an http"):
        mirror_address("ftp://mine.example", apt=tmp_path)


def test_no_debian_source_says_which_setting_helps(tmp_path: Path) -> None:
    write(tmp_path, "sources.list", "deb http://archive.example/ubuntu noble main")
    write(tmp_path, "sources.list.d/x.sources", THIRD_PARTY)
    with pytest.raises(LabError, match=r"mirror.*\[debian\]"):
        mirror_address(apt=tmp_path)
