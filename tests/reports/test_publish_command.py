"""`xdnawatch publish` and `xdnawatch compare` as a shell sees them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def xdnawatch(site: Any, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "xdnawatch", "--database", str(site.database.url), *words],
        cwd=site.runs,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_publish_prints_the_front_page_and_nothing_else(site: Any, tmp_path: Path) -> None:
    done = xdnawatch(site, "publish", "--to", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    front = Path(done.stdout.strip())
    assert front == tmp_path / "out" / "index.html"
    assert front.is_file()
    again = json.loads(xdnawatch(site, "publish", "--to", str(tmp_path / "out"), "--json").stdout)
    assert again["written"] == 0
    assert again["kept"] > 50


def test_publish_refuses_a_folder_with_other_things_in_one_sentence(site: Any, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("")
    done = xdnawatch(site, "publish", "--to", str(tmp_path / "home"))
    assert done.returncode == 2
    assert "choose an empty" in done.stderr
    assert "Traceback" not in done.stderr


def test_compare_says_what_differs_and_exits_with_one_for_a_regression(site: Any) -> None:
    done = xdnawatch(site, "compare", "7.0.13", "7.3.4", "--machine", "virtual-npu4")
    assert done.returncode == 1, done.stderr
    assert "1 new failure" in done.stdout
    assert "commands: timeout_recovery" in done.stdout
    assert "simulated" in done.stderr
    better = xdnawatch(site, "compare", "7.0.13", "7.1.13", "--machine", "minipc", "--json")
    assert better.returncode == 0
    answer = json.loads(better.stdout)
    assert answer["regressed"] is False
    assert [c["label"] for c in answer["counts"]] == ["value changed", "fixed", "environment only", "timing"]


def test_compare_of_what_was_not_run_lists_what_was(site: Any) -> None:
    done = xdnawatch(site, "compare", "7.0.13", "9.9.9", "--machine", "virtual-npu4")
    assert done.returncode == 2
    assert "6.19.14, 7.0.13, 7.1.13, 7.2.12, 7.3.4" in done.stderr
    several = xdnawatch(site, "compare", "7.0.13", "7.1.13")
    assert several.returncode == 2
    assert "--machine" in several.stderr
    nowhere = xdnawatch(site, "compare", "7.0.13", "7.1.13", "--machine", "toaster")
    assert nowhere.returncode == 2
    assert "virtual-npu4" in nowhere.stderr
