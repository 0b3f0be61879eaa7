"""``xrt-smi validate`` as tests: one call for each test, so that one that hangs does not hide the others."""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any

from harness.inference import validate
from harness.inference.bench import Bench, Case, Detected
from harness.inference.commands import Command, Ran
from harness.inference.metrics import Installed, Missing, Report, failed, passed, skipped, unreadable
from harness.inference.xrt_smi import PROGRAMS

RUNNER = "xrt-smi-validate"


class Validate:
    """The tests of one installation. ``archive`` is set when the first call finds its archive missing."""

    def __init__(self, bench: Bench, found: Detected) -> None:
        self.bench = bench
        self.found = found
        self.archive: Missing | None = None

    @cached_property
    def offered(self) -> tuple[tuple[str, ...], bool]:
        """The tests that this release offers on this NPU, and whether --advanced is needed to see them."""
        advanced, plain = self.bench.commands.run(
            Command(PROGRAMS, ("validate", "--advanced", "--help"), self.bench.timeouts.detect),
            Command(PROGRAMS, ("validate", "--help"), self.bench.timeouts.detect),
        )
        if advanced.ok and validate.offered_tests(advanced.stdout):
            return validate.offered_tests(advanced.stdout), True
        return validate.offered_tests(plain.stdout), False

    def run(self, test: validate.ValidateTest) -> Report:
        """One test; skipped with the exact missing piece."""
        obstacle = self._obstacle(test)
        if obstacle:
            return skipped(obstacle)
        place = self.bench.file("validate.json")
        flags = ("--advanced",) if self.offered[1] else ()
        arguments = ("validate", "-d", self.bench.state.bdf, "-r", test.name, "-f", "JSON", "-o", place)
        ran = self.bench.commands.run_one(
            Command(
                PROGRAMS,
                (*arguments, *flags, "--batch"),
                self.bench.timeouts.validate,
                read=(place,),
                remove=(place,),
                watch=self.bench.watched_node,
            )
        )
        lacking = validate.missing_archive(ran.stdout) or validate.missing_archive(ran.stderr)
        if lacking:
            self.archive = _archive(lacking, self.found)
            return skipped(self.archive)
        return judge(ran, ran.files.get(place, b""), test)

    def _obstacle(self, test: validate.ValidateTest) -> Missing | None:
        if isinstance(self.found, Missing):
            return self.found
        state = self.bench.state
        if state.obstacle:
            return state.obstacle
        names, _advanced = self.offered
        if names and test.name not in names:
            return Missing(
                f"xrt-smi {self.found.version} does not offer {test.name} on this {state.generation} "
                f"(it offers: {', '.join(name for name in names if name != 'all')})",
                "use a release of XRT that does, or accept that this NPU has no such test",
            )
        if test.root and not state.root:
            return Missing(f"{test.name} needs root", "run the suite as root on this machine")
        return self.archive


def _archive(lacking: tuple[str, str], found: Installed | Missing) -> Missing:
    path, folder = lacking
    version = found.version if isinstance(found, Installed) else "?"
    name = path.rpartition("/")[2]
    where = folder or f"~/.local/share/xrt/{version}/amdxdna/bins/"
    return Missing(
        f"the archive {path} is not installed (no Debian package has it)",
        f"put {name} of AMD's VTD repository for XRT {version} into {where}",
    )


def judge(ran: Ran, report: bytes, test: validate.ValidateTest) -> Report:
    """What one call came to (pure): the JSON report, else the printed text, else how the program ended."""
    found = validate.parse_json(report) if report else validate.parse_text(ran.stdout)
    result = found.test(test.name)
    facts: dict[str, Any] = {"power_mode": found.power_mode} if found.power_mode else {}
    if ran.watched:
        facts["driver"] = ran.watched.as_json()
    if result is None:
        if not ran.ok:
            return failed(f"xrt-smi validate -r {test.name} {ran.told}", **facts)
        return unreadable(
            f"xrt-smi validate -r {test.name} ended well but reported no such test"
            f"{': ' + found.corrupted if found.corrupted else ''}",
            **facts,
        )
    if result.outcome == "skipped":
        reason = result.message or "it gave no reason"
        return skipped(Missing(f"xrt-smi skipped {test.name}: {reason}", "see xrt-smi validate"), **facts)
    if result.outcome == "error" or (ran.timed_out or ran.flooded):
        return failed(f"xrt-smi validate -r {test.name} {ran.told}; {result.message}", **facts)
    if result.outcome == "failed":
        return failed(result.message or f"xrt-smi says FAILED; {ran.told}", result.metrics, **facts)
    if not ran.ok:
        return failed(f"xrt-smi says PASSED but {ran.told}", result.metrics, **facts)
    return passed(result.metrics, **facts)


def cases(bench: Bench, found: Detected) -> list[Case]:
    """A case for each test that any release of XRT is known to have."""
    smi = Validate(bench, found)
    return [
        Case(RUNNER, test.name, f"xrt-smi validate: {test.title}", partial(smi.run, test))
        for test in validate.VALIDATE_TESTS
    ]
