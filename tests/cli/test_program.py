"""The program as a shell sees it: exit codes, one clear sentence for a bad input, data apart from notes."""

from __future__ import annotations

import errno
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from db.database import DatabaseError, WriterBusyError
from lab.machine import BootError, LabError
from xdnawatch.errors import ExitCode, SettingsError, UsageError, exit_code_for, sentence_for


def xdnawatch(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "xdnawatch", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError("x"), ExitCode.USAGE),
        (UsageError("x"), ExitCode.USAGE),
        (LabError("x"), ExitCode.INFRASTRUCTURE),
        (BootError("panic", "x"), ExitCode.INFRASTRUCTURE),
        (DatabaseError("x"), ExitCode.INFRASTRUCTURE),
        (WriterBusyError("x"), ExitCode.INFRASTRUCTURE),
        (OSError(errno.ENOSPC, "No space left on device"), ExitCode.INFRASTRUCTURE),
    ],
)
def test_every_expected_error_has_its_exit_code(error: Exception, code: ExitCode) -> None:
    assert exit_code_for(error) is code


def test_a_defect_of_ours_is_not_disguised_as_an_expected_error() -> None:
    assert exit_code_for(KeyError("x")) is None


def test_a_full_disk_is_named_with_the_file_and_the_next_step() -> None:
    text = sentence_for(OSError(errno.ENOSPC, "No space left on device", "/data/runs/journal.jsonl"))
    assert "the disk is full while writing /data/runs/journal.jsonl" in text
    assert "run the same command again" in text


def test_bad_settings_are_one_line_on_standard_error_and_exit_2(tmp_path: Path) -> None:
    (tmp_path / "xdnawatch.toml").write_text("[nightly]\nkernle = []\n")
    done = xdnawatch("track", "changes", "--json", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("xdnawatch: error: xdnawatch.toml: unknown key 'nightly.kernle'")
    assert len(done.stderr.splitlines()) == 1


def test_an_unknown_command_is_exit_2_with_a_hint(tmp_path: Path) -> None:
    done = xdnawatch("rnu", cwd=tmp_path)
    assert done.returncode == 2
    assert "No such command 'rnu'" in done.stderr


def test_help_names_the_exit_codes_and_every_command(tmp_path: Path) -> None:
    text = xdnawatch("--help", cwd=tmp_path).stdout
    for word in ("track", "run", "nightly", "bisect", "publish", "lab", "demo", "Exit codes"):
        assert word in text


def test_the_version_is_the_distributions(tmp_path: Path) -> None:
    assert xdnawatch("--version", cwd=tmp_path).stdout.startswith("xdnawatch 0.")


def test_completion_for_the_shell_can_be_installed(tmp_path: Path) -> None:
    # The shell is found among the parents: here is one, whoever started the tests. "; true" keeps it there.
    command = f"{shlex.quote(sys.executable)} -m xdnawatch --show-completion; true"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "_XDNAWATCH_COMPLETE" in done.stdout
