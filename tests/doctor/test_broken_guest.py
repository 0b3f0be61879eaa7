"""A real guest is broken on purpose: doctor names it over SSH, and a run does not blame the kernel.

The default suite goes through some of the environments in one boot; `pytest -m long` through all of them, on
a kernel of each IOMMU mode and on one that takes older firmware (what `xdnawatch matrix environments` writes
into docs/doctor.md).
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.breakage import ROWS, Seen, boots, chosen
from harness.breakage_report import wrong
from harness.broken_guest import go_through, presence_suite
from harness.kernels.debian import stock_kernel
from lab.packages.store import PackageStore
from lab.virtual.kernels import cached_kernels, numbers_of
from tests.harness.processes import answer

pytestmark = [pytest.mark.qemu, pytest.mark.slow]

#: Seen in the file system, by the driver, on the bus, in rights, in limits, in the tools; the last is final.
SOME = ("no-firmware", "no-force-iova", "no-device", "root-only", "memlock", "no-python", "oops-before")


def looks(
    lab_cache: Path, folder: Path, version: str, names: tuple[str, ...], *, control: bool
) -> list[Seen]:
    if version not in {kernel.version for kernel in cached_kernels(lab_cache)}:
        pytest.skip(f"no kernel {version} in {lab_cache} (`xdnawatch lab fetch --kernel {version}`)")
    store = PackageStore(lab_cache)
    candidate = stock_kernel(store, version)
    found: list[Seen] = []
    for number, boot in enumerate(boots(chosen(names), numbers_of(version))):
        place = folder / str(number)
        found += go_through(store, candidate, boot, presence_suite(), place, control=control)
    return found


@pytest.mark.timeout(600)
def test_broken_environments_are_named_and_never_blamed_on_the_kernel(
    lab_cache: Path, tmp_path: Path
) -> None:
    found = looks(lab_cache, tmp_path, "7.3.4", SOME, control=False)
    assert {seen.row.name for seen in found} == set(SOME)
    assert wrong(found) == []
    assert {seen.exit_codes[1] for seen in found} == {3}


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("version", ["6.18.15", "7.0.13", "7.3.4"])
def test_every_broken_environment_is_named(lab_cache: Path, tmp_path: Path, version: str) -> None:
    found = looks(lab_cache, tmp_path, version, (), control=True)
    assert {seen.row.name for seen in found} >= {
        row.name for row in ROWS if row.exists_on(numbers_of(version))
    }
    assert wrong(found) == []


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_command_goes_on_where_it_was_and_writes_its_table(lab_cache: Path, tmp_path: Path) -> None:
    (tmp_path / "xdnawatch.toml").write_text(f'[paths]\ndata = "data"\ncache = "{lab_cache}"\n')
    page = tmp_path / "page.md"
    page.write_text("<!-- written by `xdnawatch matrix environments`: begin -->\n<!-- end -->\n")
    words = ("matrix", "environments", "--kernel", "7.3.4", "--only", "not-in-group", "--write", str(page))
    code, rows, said = answer(tmp_path, *words, "--json", timeout=600)
    assert code == 0, said
    named = {row["row"]: row["right"] for row in rows}
    assert named == {"not-in-group": True}
    boots_made = len(list((tmp_path / "data/environments").iterdir()))
    again, rows, said = answer(tmp_path, *words, "--json")
    assert (again, len(rows)) == (0, 1), said
    assert len(list((tmp_path / "data/environments").iterdir())) == boots_made == 1, "nothing boots twice"
    assert "warn; environment" not in page.read_text()
    assert "| `permission` | bad; environment |" in page.read_text()
    record = (tmp_path / "data/environment-matrix.jsonl").read_text().splitlines()
    assert {json.loads(line)["row"] for line in record} == {"nothing", "not-in-group"}
