"""Stable branches: present, queued, missing, failed, reverted, not needed; bugs only a backport has."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from db.database import Database
from tracker.backports import Backport
from tracker.stable import StableAnswer, stable
from tracker.stable_mail import read_stable_mail

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def by_title(found: StableAnswer, branch: str) -> dict[str, Backport]:
    """Short title -> the answer in one branch."""
    return {one.title.removeprefix("accel/amdxdna: "): one for one in found.backports if one.branch == branch}


@pytest.fixture
def history(kernel: Any) -> Any:
    """v6.18 has the driver; v6.19 a feature and fixes; linux-6.18.y takes some of them.

    mainline: Add .. v6.18 .. feature, fix A, fix B, fix feature, fix C, asked .. v6.19-rc1 .. v6.19
    6.18.y:   v6.18 .. fix A ("commit X upstream.") v6.18.1 .. fix B ("[ Upstream commit X ]") v6.18.2
    """
    kernel.commit("Add the driver")
    kernel.tag("v6.18-rc1")
    kernel.tag("v6.18")
    kernel.commit("Add a feature")
    kernel.commit("Fix A", kernel.fixes("Add the driver"))
    kernel.commit("Fix B", kernel.fixes("Add the driver"))
    kernel.commit("Fix the feature", kernel.fixes("Add a feature"))
    kernel.commit("Fix C", kernel.fixes("Add the driver"))
    kernel.commit("Wanted", "Cc: <stable@vger.kernel.org> # 6.14+\n")
    kernel.commit("Wanted later", "Cc: stable@vger.kernel.org # v6.19.x\n")
    kernel.commit("Fix elsewhere", 'Fixes: 0123456789ab ("core: Other")\n')
    kernel.tag("v6.19-rc1")
    kernel.tag("v6.19")
    kernel.backport("Fix A", "linux-6.18.y", start="v6.18")
    kernel.tag("v6.18.1", "linux-6.18.y")
    kernel.backport("Fix B", "linux-6.18.y", form="bracket")
    kernel.tag("v6.18.2", "linux-6.18.y")
    return kernel


def test_each_state_with_its_reason(history: Any, read: Callable[..., None], database: Database) -> None:
    read(["linux-6.18.y"])
    found = by_title(stable(database, now=NOW), "linux-6.18.y")
    states = {title: (one.state, one.version) for title, one in found.items()}
    assert states == {
        "Add the driver": ("present", "6.18-rc1"),
        "Add a feature": ("not-needed", None),
        "Fix A": ("present", "6.18.1"),
        "Fix B": ("present", "6.18.2"),
        "Fix the feature": ("not-needed", None),
        "Fix C": ("missing", None),
        "Wanted": ("missing", None),
        "Wanted later": ("not-needed", None),
        "Fix elsewhere": ("unknown", None),
    }
    assert found["Add the driver"].inherited
    assert not found["Fix A"].inherited
    assert history.ids["Add the driver"][:12] in found["Fix C"].evidence[0]
    assert "6.14" in found["Wanted"].evidence[0]
    assert history.ids["Fix A"][:12] in found["Fix A"].evidence[0]


def test_a_fix_of_what_a_backport_brought_is_missing(
    history: Any, read: Callable[..., None], database: Database
) -> None:
    history.commit("Fix A once more", history.fixes("Fix A"))
    history.tag("v7.0-rc1")
    read(["linux-6.18.y"])
    found = by_title(stable(database, now=NOW), "linux-6.18.y")["Fix A once more"]
    assert found.state == "missing"
    assert "6.18.1" in found.evidence[0]


def test_copies_of_every_form_are_found_and_untagged_ones_are_queued(
    history: Any, read: Callable[..., None], database: Database
) -> None:
    history.backport("Fix C", "linux-6.18.y", form="cherry")
    history.tag("v6.18.3", "linux-6.18.y")
    history.backport("Wanted", "linux-6.18.y", form="none")
    read(["linux-6.18.y"])
    found = by_title(stable(database, now=NOW), "linux-6.18.y")
    assert (found["Fix C"].state, found["Fix C"].version) == ("present", "6.18.3")
    assert found["Wanted"].state == "queued"
    assert found["Wanted"].score < 1.0  # by its title alone


def test_a_backport_taken_out_again_and_put_back(
    history: Any, read: Callable[..., None], database: Database
) -> None:
    copy = history.git("rev-parse", "v6.18.2^{commit}")
    upstream = history.ids["Fix B"]
    history.commit(
        "Revert it", f"This reverts commit {copy} which is\ncommit {upstream} upstream.\n",
        branch="linux-6.18.y",
    )  # fmt: skip
    history.tag("v6.18.3", "linux-6.18.y")
    read(["linux-6.18.y"])
    found = by_title(stable(database, now=NOW), "linux-6.18.y")["Fix B"]
    assert found.state == "reverted"
    assert "v6.18.3" in found.evidence[0]
    history.backport("Fix B", "linux-6.18.y")
    history.tag("v6.18.4", "linux-6.18.y")
    read(["linux-6.18.y"])
    found = by_title(stable(database, now=NOW), "linux-6.18.y")["Fix B"]
    assert (found.state, found.version) == ("present", "6.18.4")


@pytest.mark.parametrize(
    ("subject", "day", "state"),
    [
        ("[PATCH 6.18 201/641] accel/amdxdna: Fix C", 90, "queued"),
        ("[PATCH 6.18 201/641] accel/amdxdna: Fix C", 2, "missing"),  # updates came since, without it
        ('Patch "accel/amdxdna: Fix C" has been added to the 6.18-stable tree', 90, "queued"),
        ("[PATCH AUTOSEL 6.19-6.18] accel/amdxdna: Add a feature", 90, "queued"),
        ("[PATCH AUTOSEL 6.12] accel/amdxdna: Add a feature", 90, "not-needed"),
        ('FAILED: patch "[PATCH] accel/amdxdna: Fix C" failed to apply to 6.18-stable tree', 90, "failed"),
        ('FAILED: patch "[PATCH] accel/amdxdna: Fix C" failed to apply to 6.12-stable tree', 90, "missing"),
    ],
)
def test_mails_of_the_stable_process(
    history: Any,
    read: Callable[..., None],
    database: Database,
    mail: Callable[..., bytes],
    subject: str,
    day: int,
    state: str,
) -> None:
    read(["linux-6.18.y"], [mail(subject, message_id="m@example.org", day=day)])
    title = "Add a feature" if "feature" in subject else "Fix C"
    found = by_title(stable(database, now=NOW), "linux-6.18.y")[title]
    assert found.state == state
    if state == "queued":
        assert any("m@example.org" in line for line in found.evidence)


def test_an_autosel_pick_that_was_let_go(
    history: Any, read: Callable[..., None], database: Database, mail: Callable[..., bytes]
) -> None:
    history.day += 40
    history.backport("Fix C", "linux-6.18.y")
    history.tag("v6.18.3", "linux-6.18.y")
    picked = mail("[PATCH AUTOSEL 6.18] accel/amdxdna: Add a feature", message_id="m@example.org", day=15)
    read(["linux-6.18.y"], [picked])
    assert by_title(stable(database, now=NOW), "linux-6.18.y")["Add a feature"].state == "not-needed"


def test_bugs_that_only_a_backport_has(kernel: Any, read: Callable[..., None], database: Database) -> None:
    """The pattern of CVE-2026-23288: cause and fix are both of 7.0; 6.19.1 has the cause, 6.19.2 the fix."""
    kernel.commit("Add the driver")
    kernel.tag("v6.18")
    kernel.tag("v6.19")
    kernel.commit("Change a slot", kernel.fixes("Add the driver"))
    kernel.tag("v7.0-rc1")
    kernel.commit("Fix the slot", kernel.fixes("Change a slot"))
    kernel.tag("v7.0")
    kernel.backport("Change a slot", "linux-6.19.y", start="v6.19")
    kernel.tag("v6.19.1", "linux-6.19.y")
    kernel.backport("Fix the slot", "linux-6.19.y")
    kernel.tag("v6.19.2", "linux-6.19.y")
    kernel.backport("Change a slot", "linux-6.18.y", start="v6.18")
    kernel.tag("v6.18.5", "linux-6.18.y")
    read(["linux-6.18.y", "linux-6.19.y"])
    found = {one.branch: (one.since, one.fixed) for one in stable(database, now=NOW).only_here}
    assert found == {"linux-6.19.y": ("6.19.1", "6.19.2"), "linux-6.18.y": ("6.18.5", None)}
    kernel.backport("Fix the slot", "linux-6.18.y")
    read(["linux-6.18.y", "linux-6.19.y"])
    again = {one.branch: one.fixed for one in stable(database, now=NOW).only_here}
    assert again["linux-6.18.y"] is None  # in the branch, in no update yet


def test_cause_and_fix_in_one_update_are_no_bug(
    kernel: Any, read: Callable[..., None], database: Database
) -> None:
    kernel.commit("Add the driver")
    kernel.tag("v6.19")
    kernel.commit("Change a slot")
    kernel.commit("Fix the slot", kernel.fixes("Change a slot"))
    kernel.tag("v7.0-rc1")
    kernel.backport("Change a slot", "linux-6.19.y", start="v6.19")
    kernel.backport("Fix the slot", "linux-6.19.y")
    kernel.tag("v6.19.1", "linux-6.19.y")
    read(["linux-6.19.y"])
    assert stable(database, now=NOW).only_here == ()


def test_a_branch_without_updates_has_ended(
    history: Any, read: Callable[..., None], database: Database
) -> None:
    read(["linux-6.18.y"])
    assert stable(database, now=datetime(2025, 11, 1, tzinfo=UTC)).ended == ()
    assert stable(database, now=NOW + timedelta(days=60)).ended == ("linux-6.18.y",)


def test_replies_and_plain_patches_are_no_stable_mails() -> None:
    for subject in ("[PATCH v2 1/2] accel/amdxdna: X", "Re: [PATCH 6.18 1/2] accel/amdxdna: X"):
        assert read_stable_mail("m", subject, None, None) is None
    found = read_stable_mail("m", "[PATCH AUTOSEL 6.19-6.12] accel/amdxdna: X", None, None)
    assert found is not None
    assert [found.about(base) for base in ("6.18", "6.12", "7.0", "6.6")] == [True, True, False, False]


def test_the_command(history: Any, read: Callable[..., None], tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from xdnawatch.cli import app as root

    read(["linux-6.18.y"])
    settings = tmp_path / "xdnawatch.toml"
    settings.write_text(f'[database]\nurl = "sqlite:///{tmp_path / "tracker.db"}"\n')
    call = CliRunner().invoke
    done = call(root, ["-c", str(settings), "track", "stable", "--all"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert re.search(r"linux-6\.18\.y\s+missing\s+accel/amdxdna: Fix C", done.stdout)
    assert "Add the driver" not in done.stdout  # inherited
    done = call(root, ["-c", str(settings), "track", "stable", "--state", "missing", "--json"])
    assert {one["title"] for one in json.loads(done.stdout)["backports"]} == {
        "accel/amdxdna: Fix C",
        "accel/amdxdna: Wanted",
    }
