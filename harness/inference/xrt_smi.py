"""``xrt-smi examine`` and ``configure`` as tests: what they say must be what sysfs and the ioctls say."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from harness.inference import examine
from harness.inference.bench import Bench, Case, Detected
from harness.inference.commands import Command, Ran
from harness.inference.driver_state import POWER_MODES, DriverState, parse_state
from harness.inference.metrics import Installed, Missing, Report, failed, passed, skipped, unreadable
from harness.inference.printed import lines_of, text_of
from harness.suite.releases import Expectation, Level, UnknownReleaseError, expect, parse

UNSUPPORTED = "err=-95"  # EOPNOTSUPP, as XRT writes it: "... IOCTL failed (err=-95): Operation not supported"
PROGRAMS = ("xrt-smi", "/opt/xilinx/xrt/bin/xrt-smi")


def detect(bench: Bench) -> Detected:
    """xrt-smi with the version of XRT."""
    ran = bench.commands.run_one(Command(PROGRAMS, ("--version",), bench.timeouts.detect))
    if ran.program is None:
        return Missing(
            "xrt-smi is not installed",
            "install XRT for the NPU (Debian: libxrt-utils and libxrt-npu2 from backports; AMD: xrt-npu)",
        )
    if not ran.ok:
        return Missing(f"xrt-smi --version {ran.told}", "repair the installation of XRT")
    version = next(
        (
            line.split(":", 1)[1].strip()
            for line in lines_of(ran.stdout)
            if line.strip().lower().startswith("version") and ":" in line
        ),
        "unknown",
    )
    return Installed("xrt-smi", version[:40], ran.program)


class XrtSmi:
    """One installation under test; each report is asked for once."""

    def __init__(self, bench: Bench, found: Detected) -> None:
        self.bench = bench
        self.found = found

    @property
    def obstacle(self) -> Missing | None:
        """Why nothing can be examined."""
        return self.found if isinstance(self.found, Missing) else self.bench.state.obstacle

    @cached_property
    def examined(self) -> tuple[Ran, examine.Examined, DriverState]:
        """One call with all reports as JSON, and the driver's word right after it."""
        place = self.bench.file("examine.json")
        smi, looked = self.bench.commands.run(
            Command(
                PROGRAMS,
                ("examine", "-d", self.bench.state.bdf, "-r", "all", "-f", "JSON", "-o", place, "--batch"),
                self.bench.timeouts.examine,
                read=(place,),
                remove=(place,),
            ),
            self.bench.look_again,
        )
        return smi, examine.parse_json(smi.files.get(place, b"")), parse_state(looked)

    def examine_device(self) -> examine.ExaminedDevice | Report:
        """The device as xrt-smi reports it, or why there is none."""
        smi, found, _state = self.examined
        if not smi.ok:
            return failed(f"xrt-smi examine {smi.told}")
        if found.corrupted:
            return unreadable(f"xrt-smi examine wrote a report that cannot be read: {found.corrupted}")
        device = found.device(self.bench.state.bdf)
        if device is None:
            others = ", ".join(device.bdf for device in found.devices) or "none"
            return failed(f"xrt-smi sees no NPU at {self.bench.state.bdf} (it sees: {others})")
        return device

    def host(self) -> Report:
        """The kernel and XRT's own version."""
        if self.obstacle:
            return skipped(self.obstacle)
        device = self.examine_device()
        if isinstance(device, Report):
            return device
        _smi, found, state = self.examined
        facts: dict[str, Any] = {"xrt": found.xrt, "drivers": dict(found.drivers), "kernel": found.kernel}
        wrong = []
        if found.kernel != state.kernel:
            wrong.append(f"it says kernel {found.kernel!r}, uname says {state.kernel!r}")
        if isinstance(self.found, Installed) and found.xrt != self.found.version:
            wrong.append(f"the report says XRT {found.xrt!r}, --version {self.found.version!r}")
        return failed("; ".join(wrong), **facts) if wrong else passed(**facts)

    def device(self) -> Report:
        """Name and firmware, against sysfs (vbnv, fw_version) and GET_INFO."""
        if self.obstacle:
            return skipped(self.obstacle)
        device = self.examine_device()
        if isinstance(device, Report):
            return device
        state = self.examined[2]
        return _compared(
            ("name", device.name, "sysfs vbnv", state.vbnv),
            ("firmware", device.firmware, "sysfs fw_version", state.fw_version),
            ("firmware", device.firmware, "GET_INFO firmware version", state.firmware),
            ("ready", "yes" if device.ready is not False else "no", "expectation", "yes"),
            bdf=device.bdf,
            architecture=device.architecture,
        )

    def platform(self) -> Report:
        """Columns, topology and power mode, against GET_INFO; sensors as metrics where there are any."""
        if self.obstacle:
            return skipped(self.obstacle)
        device = self.examine_device()
        if isinstance(device, Report):
            return device
        state = self.examined[2]
        topology = f"{state.rows}x{state.columns}" if state.rows and state.columns else ""
        columns = "" if device.columns is None else str(device.columns)
        report = _compared(
            ("columns", columns, "GET_INFO metadata", str(state.columns or "")),
            ("topology", device.topology, "GET_INFO metadata", topology),
            ("power mode", device.power_mode, "GET_INFO power mode", state.power_mode),
            columns=device.columns,
            complaints=list(device.complaints),
            clocks=dict(state.clocks),
        )
        return Report(report.outcome, report.message, examine.metrics_of(device), report.facts)

    def partitions(self) -> Report:
        """As many hardware contexts as GET_ARRAY lists, when nobody opens or closes one meanwhile."""
        if self.obstacle:
            return skipped(self.obstacle)
        device = self.examine_device()
        if isinstance(device, Report):
            return device
        state = self.examined[2]
        if device.contexts is None:
            return unreadable("xrt-smi examine -r all reported no AIE partitions")
        if state.contexts is None or state.contexts != self.bench.look().contexts:
            return passed(contexts=device.contexts, compared=False)
        return _compared(
            ("contexts", str(device.contexts), "GET_ARRAY contexts", str(state.contexts)),
            contexts=device.contexts,
        )

    def text(self) -> Report:
        """The text form says the same as the JSON form."""
        if self.obstacle:
            return skipped(self.obstacle)
        device = self.examine_device()
        if isinstance(device, Report):
            return device
        ran = self.bench.commands.run_one(
            Command(PROGRAMS, ("examine", "-r", "all", "--batch"), self.bench.timeouts.examine)
        )
        if not ran.ok:
            return failed(f"xrt-smi examine {ran.told}")
        found = examine.parse_text(ran.stdout)
        other = found.device(device.bdf)
        if other is None:
            return failed(f"the text form lists no NPU at {device.bdf}")
        return _compared(
            ("name", other.name, "JSON", device.name),
            ("firmware", other.firmware, "JSON", device.firmware),
            ("power mode", other.power_mode, "JSON", device.power_mode),
            ("columns", str(other.columns), "JSON", str(device.columns)),
            ("XRT", found.xrt, "JSON", self.examined[1].xrt),
        )

    def power_mode(self, mode: str) -> Report:
        """Set a mode, read it back from the driver, put the old one back."""
        obstacle = self.obstacle or self._unprivileged()
        if obstacle:
            return skipped(obstacle)
        before = self.bench.state.power_mode
        if not before:
            return unreadable("the driver does not tell its power mode: nothing could be put back")
        setting, looked, back, last = self.bench.commands.run(
            self._configure("--pmode", mode),
            self.bench.look_again,
            self._configure("--pmode", before),
            self.bench.look_again,
        )
        expected = mode_expectation(mode, self.bench.state)
        report = judge_power_mode(
            mode, before, expected, (setting, parse_state(looked)), (back, parse_state(last))
        )
        return replace(report, expectations=(expected.plain(),) if expected else ())

    def nonsense(self) -> Report:
        """A mode that does not exist is refused and changes nothing."""
        if self.obstacle:
            return skipped(self.obstacle)
        before, setting, looked = self.bench.commands.run(
            self.bench.look_again, self._configure("--pmode", "nonsense"), self.bench.look_again
        )
        mode, after = parse_state(before).power_mode, parse_state(looked).power_mode
        if setting.status == 0:
            return failed("xrt-smi configure accepts --pmode nonsense")
        if after != mode:
            return failed(f"a refused mode changed the power mode from {mode} to {after}")
        return passed(power_mode=after)

    def force_preemption(self) -> Report:
        """Switch forced preemption on, read it back, put the old state back; where xrt-smi offers it."""
        obstacle = self.obstacle or self._unprivileged()
        if obstacle:
            return skipped(obstacle)
        offered = self.bench.commands.run_one(
            Command(PROGRAMS, ("configure", "--help", "--batch"), self.bench.timeouts.configure)
        )
        if "--force-preemption" not in text_of(offered.stdout):
            version = self.found.version if isinstance(self.found, Installed) else ""
            return skipped(
                Missing(
                    f"xrt-smi {version} offers no configure --force-preemption on this NPU",
                    "use a release of XRT that does",
                )
            )
        before = "enable" if self.bench.state.force_preemption else "disable"
        setting, looked, back = self.bench.commands.run(
            self._configure("--force-preemption", "enable"),
            self.bench.look_again,
            self._configure("--force-preemption", before),
        )
        if not (setting.ok and back.ok):
            return failed(f"xrt-smi configure --force-preemption {(back if setting.ok else setting).told}")
        if parse_state(looked).force_preemption is not True:
            return failed("forced preemption was switched on, the driver says it is off")
        return passed(before=before)

    def _unprivileged(self) -> Missing | None:
        if self.bench.state.root:
            return None
        return Missing("configuring the NPU needs root", "run the suite as root on this machine")

    def _configure(self, option: str, value: str) -> Command:
        arguments = ("configure", "-d", self.bench.state.bdf, option, value, "--batch")
        return Command(PROGRAMS, arguments, self.bench.timeouts.configure)


def mode_expectation(mode: str, state: DriverState) -> Expectation | None:
    """What the release table says of a mode: the lower ones are refused by older drivers. None: accepted."""
    if mode not in ("powersaver", "balanced") or len(state.driver_version) < 2:
        return None
    try:
        level = Level(parse(state.kernel), state.driver_version[1], state.generation)
    except UnknownReleaseError:
        return None
    return expect("power-low-medium", level)


def judge_power_mode(
    mode: str,
    before: str,
    expected: Expectation | None,
    during: tuple[Ran, DriverState],
    after: tuple[Ran, DriverState],
) -> Report:
    """Whether a mode was set as this release should, and the old one put back (pure)."""
    setting, state = during
    facts: dict[str, Any] = {"power_mode": state.power_mode, "before": before, "clocks": dict(state.clocks)}
    refused = UNSUPPORTED in text_of(setting.stdout + setting.stderr)
    if expected is not None and expected.row.value == "EOPNOTSUPP":
        if setting.ok:
            return failed(f"{mode} was accepted by a driver that should not know it", **facts)
        if not refused or state.power_mode != before:
            return failed(f"{mode} should be refused as unsupported; xrt-smi {setting.told}", **facts)
        return passed(refused="EOPNOTSUPP", **facts)
    if not setting.ok:
        return failed(f"xrt-smi configure --pmode {mode} {setting.told}", **facts)
    if state.power_mode != mode:
        return failed(f"{mode} was set, the driver says {state.power_mode or 'nothing'}", **facts)
    if not after[0].ok or after[1].power_mode != before:
        return failed(f"{before} could not be put back: {after[1].power_mode or 'nothing'} is set", **facts)
    return passed(**facts)


def _compared(*pairs: tuple[str, str, str, str], **facts: Any) -> Report:
    """(what, xrt-smi's value, source, its value): they must be equal; what a source does not say counts as
    seen, not as equal.
    """
    wrong = [
        f"{what}: xrt-smi says {said or 'nothing'}, {source} says {truth}"
        for what, said, source, truth in pairs
        if truth and said != truth
    ]
    silent = [f"{source} ({what})" for what, _said, source, truth in pairs if not truth]
    values: dict[str, Any] = {what.replace(" ", "_"): said for what, said, _source, _truth in pairs}
    values |= {**facts, **({"not_compared": silent} if silent else {})}
    return failed("; ".join(wrong), **values) if wrong else passed(**values)


def cases(bench: Bench, found: Detected) -> list[Case]:
    """Every test of examine and configure."""
    smi = XrtSmi(bench, found)
    look, change = "xrt-smi-examine", "xrt-smi-configure"
    return [
        Case(look, "host", "xrt-smi names the kernel and its own version", smi.host),
        Case(look, "device", "xrt-smi names the NPU and its firmware as the driver does", smi.device),
        Case(look, "platform", "columns and power mode are the driver's", smi.platform),
        Case(look, "partitions", "as many hardware contexts as the driver has", smi.partitions),
        Case(look, "text", "the text form agrees with the JSON form", smi.text),
        *(
            Case(
                change,
                f"pmode-{mode}",
                f"power mode {mode} reaches the driver",
                partial(smi.power_mode, mode),
            )
            for mode in POWER_MODES
        ),
        Case(change, "pmode-nonsense", "a power mode that does not exist is refused", smi.nonsense),
        Case(change, "force-preemption", "forced preemption reaches the driver", smi.force_preemption),
    ]
