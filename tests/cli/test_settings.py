"""xdnawatch.toml: typos are errors, paths are relative to the file, defaults hold without one."""

from __future__ import annotations

from pathlib import Path

import pytest

from xdnawatch.errors import SettingsError
from xdnawatch.settings import load_settings


def write(folder: Path, text: str) -> Path:
    file = folder / "xdnawatch.toml"
    file.write_text(text)
    return file


def test_without_a_file_every_default_holds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDNAWATCH_DATA", str(tmp_path / "d"))
    settings = load_settings(None)
    assert settings.source == ()
    assert settings.database_url == f"sqlite:///{tmp_path / 'd' / 'xdnawatch.db'}"


def test_the_file_of_the_present_folder_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write(tmp_path, '[nightly]\nmachines = ["virtual-npu4"]\nkernels = ["7.3.4"]\n')
    monkeypatch.chdir(tmp_path)
    assert load_settings(None).nightly.kernels == ("7.3.4",)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[path]\n", "path"),
        ("[paths]\ncash = 'x'\n", "paths.cash"),
        ("[[machine]]\nname = 'a'\nshh = 'me@minipc'\n", "machine.0.shh"),
        ("[nightly]\nkernel = ['7.3.4']\n", "nightly.kernel"),
    ],
)
def test_an_unknown_key_is_named(tmp_path: Path, text: str, key: str) -> None:
    with pytest.raises(SettingsError, match=rf"xdnawatch.toml: unknown key '{key}'"):
        load_settings(write(tmp_path, text))


def test_broken_toml_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"not valid TOML: .*line 2"):
        load_settings(write(tmp_path, "[paths]\ndata = \n"))


def test_a_missing_file_that_was_asked_for_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no settings file"):
        load_settings(tmp_path / "none.toml")


def test_two_machines_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="name 'a' twice"):
        load_settings(write(tmp_path, "[[machine]]\nname='a'\nssh='x'\n[[machine]]\nname='a'\nssh='y'\n"))


def test_local_paths_are_relative_to_the_file_and_urls_are_left_alone(tmp_path: Path) -> None:
    settings = load_settings(
        write(
            tmp_path,
            "[paths]\ndata = 'd'\n"
            "[[source]]\nname='a'\nkind='mbox'\nlocation='mails/a.mbox'\n"
            "[[tree]]\nname='m'\nlocation='https://example.org/linux.git'\n"
            "[[tree]]\nname='n'\nlocation='git@example.org:linux.git'\n",
        )
    )
    assert settings.paths.data == tmp_path / "d"
    assert settings.source[0].location == str(tmp_path / "mails/a.mbox")
    assert [tree.location for tree in settings.tree] == [
        "https://example.org/linux.git",
        "git@example.org:linux.git",
    ]


def test_the_database_of_the_command_line_wins(tmp_path: Path) -> None:
    file = write(tmp_path, "[database]\nurl = 'sqlite:////a.db'\n")
    assert load_settings(file, database_url="sqlite:////b.db").database_url == "sqlite:////b.db"
