"""The main job without a kernel to boot: a missing part costs one line, the rest is done and labelled."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

# Nothing listens on port 9 of loopback: every download is refused at once.
NO_MIRROR = '[debian]\nmirror = "http://127.0.0.1:9/debian"\n'


def demo(folder: Path, settings: str, *words: str) -> subprocess.CompletedProcess[str]:
    (folder / "xdnawatch.toml").write_text("[paths]\ndata = 'data'\ncache = 'cache'\n" + settings)
    return subprocess.run(
        [sys.executable, "-m", "xdnawatch", "demo", *words],
        cwd=folder, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip


def windows(folder: Path) -> dict[str, dict[str, object]]:
    twin = json.loads((folder / "data/site/index.json").read_text())
    return {row["window"]: row for row in twin["data"]["windows"]}


def test_without_mail_git_or_kernels_the_labelled_sample_is_published_and_the_exit_code_says_why(
    tmp_path: Path,
) -> None:
    done = demo(
        tmp_path,
        NO_MIRROR + '[[source]]\nname = "list"\nkind = "mbox"\nlocation = "gone.mbox"\n'
        '[[tree]]\nname = "linux"\nlocation = "gone.git"\n',
    )
    assert done.returncode == 3, done.stderr
    notes = done.stderr.splitlines()
    for name, gone in (("list", "gone.mbox"), ("linux", "gone.git")):
        (line,) = [line for line in notes if line.startswith(f"{name}: not reached")]
        assert gone in line
    assert [line for line in notes if line.startswith("no kernel was booted")]
    assert "Traceback" not in done.stderr
    site = tmp_path / "data/site"
    assert f"the site: {site / 'index.html'}" in done.stdout
    assert "Sample data." in (site / "index.html").read_text()
    assert windows(tmp_path)["7.1"]["sample"] is True


def test_an_archive_that_does_not_exist_is_a_usage_error(tmp_path: Path) -> None:
    done = demo(tmp_path, NO_MIRROR, "--mail", "nowhere.mbox")
    assert done.returncode == 2
    assert "there is no nowhere.mbox" in done.stderr


@pytest.mark.real
def test_real_mail_is_used_in_place_of_the_sample_mails(tmp_path: Path, real_data: Path) -> None:
    done = demo(tmp_path, NO_MIRROR, "--mail", str(real_data / "mails/amdxdna-patches.mbox"))
    assert "mail: the offline sample" not in done.stderr
    assert "git: the offline sample history" in done.stderr
    assert "amdxdna-patches.mbox" in done.stdout
