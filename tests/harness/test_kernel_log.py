"""Log lines become findings of the right class, at the right test, whatever the log throws at us."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import SignatureError
from harness.kernel_log import (
    FINDINGS_LIMIT,
    LINE_LIMIT,
    TEXT_LIMIT,
    LogFinding,
    Window,
    bounded_lines,
    only_new,
    parse_line,
    scan,
)
from harness.signatures import Signature, known_signatures, parse_signatures

OOPS = """\
[   23.900000] BUG: kernel NULL pointer dereference, address: 0000000000000010
[   23.900100] #PF: supervisor read access in kernel mode
[   23.900200] Oops: Oops: 0000 [#1] SMP NOPTI
[   23.900300] CPU: 0 UID: 0 PID: 168 Comm: python3 Tainted: G        W
[   23.900400] RIP: 0010:sg_alloc_append_table_from_pages+0x289/0x490
[   23.900500] Call Trace:
[   23.900600]  amdxdna_ubuf_map+0x5e/0xb0 [amdxdna]
[   23.900700] ---[ end trace 0000000000000000 ]---
[   23.900800] RIP: 0010:sg_alloc_append_table_from_pages+0x289/0x490
"""
WARN_NEW = """\
[   10.000000] ------------[ cut here ]------------
[   10.000001] WARNING: drivers/accel/amdxdna/amdxdna_gem.c:1331 at amdxdna_drm_sync_bo_ioctl+0x15f/0x2a0
[   10.000002] RIP: 0010:amdxdna_drm_sync_bo_ioctl+0x15f/0x2a0 [amdxdna]
[   10.000003] ---[ end trace 0000000000000000 ]---
"""
WARN_OLD = (
    "[    1.000000] WARNING: CPU: 1 PID: 42 at drivers/iommu/intel/iommu.c:3490 intel_iommu_disable_iopf\n"
)


def findings(text: str, **options: object) -> list[LogFinding]:
    lines = text.encode("utf-8", "surrogateescape").splitlines()
    return list(scan(lines, "kernel.log", known_signatures(), **options).findings)  # type: ignore[arg-type] - keyword options of scan, spelled by each test


def test_every_signature_names_its_own_example() -> None:
    for signature in known_signatures():
        for prefix in ("[   12.345678] ", "<3>[   12.345678] ", "[Tue Feb 10 10:42:10 2026] ", ""):
            (finding,) = findings(prefix + signature.example)
            assert (finding.signature, finding.klass) == (signature.id, signature.klass)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"regex": "("}, "missing"),
        ({"klass": "strange"}, "unknown class 'strange'"),
        ({"severity": "bad"}, "unknown severity 'bad'"),
        ({"example": "nothing of the kind"}, "not matched by its own expression"),
    ],
)
def test_a_wrong_table_is_refused_with_the_entry_named(change: dict[str, str], problem: str) -> None:
    entry = {
        "id": "mine",
        "klass": "hang",
        "severity": "info",
        "regex": "stuck",
        "environment": False,
        "cause": "",
        "next_step": "",
        "source": "",
        "example": "it is stuck",
    }
    with pytest.raises(SignatureError, match=f"mine.*{problem}"):
        parse_signatures({"schema": 1, "signatures": [{**entry, **change}]})


def test_an_oops_is_one_finding_with_its_trace() -> None:
    (finding,) = findings(OOPS)
    assert (finding.signature, finding.klass, finding.severity) == ("oops", "oops", "crash")
    assert finding.line == 1
    assert finding.time == 23.9
    assert finding.driver
    assert "amdxdna_ubuf_map" in finding.text
    assert "#PF: supervisor" in finding.text


def test_both_forms_of_a_warning_are_known_and_a_foreign_one_is_not_the_drivers() -> None:
    (new,) = findings(WARN_NEW)
    (old,) = findings(WARN_OLD)
    assert (new.signature, new.severity, new.driver) == ("warn", "warning", True)
    assert (old.signature, old.severity, old.driver) == ("warn", "warning", False)


def test_a_known_place_names_an_oops_more_exactly() -> None:
    text = "BUG: unable to handle page fault\nRIP: 0010:aie2_cmdlist_fill_slot+0x26/0x130 [amdxdna]\n"
    (finding,) = findings(text)
    assert (finding.signature, finding.severity) == ("oops-cmdlist", "crash")


def test_a_panic_after_an_oops_is_a_finding_of_its_own() -> None:
    names = [
        f.signature for f in findings(OOPS + "[   24.000000] Kernel panic - not syncing: Fatal exception\n")
    ]
    assert names == ["oops", "panic"]


@pytest.mark.parametrize(
    ("line", "signature", "klass"),
    [
        ("BUG: KASAN: slab-use-after-free in amdxdna_job", "sanitizer", "oops"),
        ("watchdog: BUG: soft lockup - CPU#0 stuck for 22s!", "lockup", "hang"),
        ("rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", "rcu-stall", "hang"),
        ("rcu: INFO: rcu_preempt self-detected stall on CPU", "rcu-stall", "hang"),
        ("INFO: task python3:168 blocked for more than 120 seconds.", "hung-task", "hang"),
        ("WARNING: possible circular locking dependency detected", "lockdep", "oops"),
        ("WARNING: possible recursive locking detected", "lockdep", "oops"),
        ("BUG: sleeping function called from invalid context at mm/slab.c", "kernel-bug", "oops"),
        ("refcount_t: underflow; use-after-free.", "kernel-bug", "oops"),
        ("BUG kmalloc-64 (Not tainted): Poison overwritten", "kernel-bug", "oops"),
        ("BUG amdxdna_job (Tainted: G    B      O       ): Object already free", "kernel-bug", "oops"),
        ("pagealloc: memory corruption", "kernel-bug", "oops"),
        ("pagealloc: single bit error", "kernel-bug", "oops"),
        ("UBSAN: array-index-out-of-bounds in drivers/accel/amdxdna/aie2_ctx.c", "ubsan", "oops"),
        ("Out of memory: Killed process 168 (python3)", "out-of-memory", "resource"),
        ("general protection fault, probably for non-canonical address", "oops", "oops"),
    ],
)
def test_the_kernels_own_reports_are_classified(line: str, signature: str, klass: str) -> None:
    (finding,) = findings(line)
    assert (finding.signature, finding.klass) == (signature, klass)


@pytest.mark.parametrize(
    "line",
    [
        "rcu: Hierarchical RCU implementation.",
        "WARNING: Caches not enabled",
        "WARNING: region 0:",
        "WARNING: RO_VPD is uninitialized or empty.",
        "amdxdna 0000:c6:00.1: enabling device (0000 -> 0002)",
        "x86/fpu: Supporting XSAVE feature 0x001: 'x87 floating point registers'",
        "PCI: Using configuration type 1 for base access, no panic here",
    ],
)
def test_ordinary_lines_are_no_findings(line: str) -> None:
    assert findings(line) == []


def test_findings_belong_to_the_test_between_the_suites_marks() -> None:
    text = (
        "<6>[    9.000000] xdnawatch: n0 start test_a.py::test_one\n"
        "<3>[    9.100000] amdxdna 0000:00:08.0: xdna_send_msg_wait: Wait for completion timeout\n"
        "<6>[    9.200000] xdnawatch: n0 finish test_a.py::test_one passed\n"
        "<3>[    9.300000] amdxdna 0000:00:08.0: [drm] *ERROR* smu cmd 3 timed out\n"
    )
    assert [f.test for f in findings(text, nonce="n0")] == ["test_a.py::test_one", None]
    assert [f.test for f in findings(text, nonce="other")] == [None, None], "a mark of another run"


def test_without_marks_the_clock_decides() -> None:
    text = "[    9.100000] amdxdna 0000:00:08.0: [drm] *ERROR* smu cmd 3 timed out\n"
    windows = [Window("one", 1.0, 9.0), Window("two", 9.05, 9.2)]
    assert [f.test for f in findings(text, windows=windows)] == ["two"]


def test_lines_from_before_the_run_are_not_the_runs() -> None:
    assert findings(OOPS, since=1000.0) == []
    assert len(findings(OOPS, since=1.0)) == 1
    probe = "[    5.000000] amdxdna 0000:c6:00.1: [drm] *ERROR* aie2_hw_start: firmware is not alive\n"
    assert [f.signature for f in findings(probe + OOPS, since=1000.0)] == ["fw-not-alive"], "it explains"
    ready = "[  950.000000] [drm] Initialized amdxdna_accel_driver 0.10.0 for 0000:c5:00.1 on minor 0\n"
    mended = [f.signature for f in findings(probe + ready + OOPS, since=1000.0)]
    assert mended == ["driver-ready"], "what was mended before explains nothing"


def test_the_serial_console_adds_only_what_the_log_lacks() -> None:
    log = findings(WARN_NEW)
    serial = findings(WARN_NEW + "[   11.000000] Kernel panic - not syncing: Fatal exception\n")
    assert [f.signature for f in only_new(serial, log)] == ["panic"]


def test_unknown_errors_of_the_driver_are_kept_as_such() -> None:
    (finding,) = findings("amdxdna 0000:00:08.0: [drm] *ERROR* some_new_function: never seen, ret -5")
    assert (finding.signature, finding.klass, finding.severity) == ("driver-error", "driver", "info")


def test_a_flood_does_not_push_out_a_crash() -> None:
    flood = "".join(
        f"<6>[ {n:4}.000000] xdnawatch: n start t{n}\n<3>[ {n:4}.500000] smu cmd {n} timed out\n"
        for n in range(3 * FINDINGS_LIMIT)
    )
    result = scan((flood + OOPS).encode().splitlines(), "kernel.log", known_signatures(), nonce="n")
    assert len(result.findings) == FINDINGS_LIMIT + 1
    assert result.findings[-1].signature == "oops"
    assert result.dropped == 2 * FINDINGS_LIMIT


def test_a_report_of_many_lines_is_one_finding_for_each_test() -> None:
    head = "amdxdna 0000:00:08.0: [drm] *ERROR* aie2_set_cmd_timeout: "

    def report(second: int) -> str:
        words = [
            "Firmware timeout state capture:",
            "\tVersion: 1.0",
            "\tFatal error type: 0x0",
            "\tContext ID: 1",
        ]
        return "".join(f"<3>[{second:5}.{n:06}] {head}{word}\n" for n, word in enumerate(words))

    text = report(9) + "<6>[   10.000000] xdnawatch: n start two\n" + report(11) + report(15)
    found = findings(text, nonce="n")
    assert [(f.signature, f.test, f.text.count("\n") + 1) for f in found] == [
        ("tdr", None, 3),
        ("tdr-report", None, 1),
        ("tdr", "two", 3),
        ("tdr-report", "two", 1),
        ("tdr", "two", 3),
        ("tdr-report", "two", 1),
    ]


def test_an_endless_line_costs_a_bounded_look() -> None:
    huge = io.BytesIO(b"A" * (50 << 20) + b"\n[    1.000000] smu cmd 3 timed out\n")
    lines = list(bounded_lines(huge))
    assert [len(line) <= LINE_LIMIT * 4 for line in lines] == [True, True]
    assert [f.signature for f in scan(lines, "x", known_signatures()).findings] == ["smu-timeout"]


def test_a_report_that_never_ends_is_cut() -> None:
    text = "WARNING: CPU: 0 PID: 1 at x\n" + "  amdxdna_frame+0x1/0x2\n" * 100_000
    result = findings(text)
    assert result[0].signature == "warn"
    assert len(result[0].text) <= TEXT_LIMIT


def test_a_large_log_is_read_fast() -> None:
    lines = [b"[  100.000001] pci 0000:00:1f.3: BAR 4: assigned [io  0x0580-0x059f]"] * 100_000
    begin = time.process_time()
    scan(lines, "kernel.log", known_signatures())
    assert time.process_time() - begin < 5.0, "a million lines must take seconds, not minutes"


# Text that makes a backtracking expression sweat: prefixes of what the expressions look for, repeated.
EVIL = st.lists(
    st.sampled_from(
        [
            "amdxdna ",
            "*ERROR* ",
            "WARNING: possible ",
            "lock",
            "DMAR: [DMA Read",
            "INFO: task ",
            "a" * 200,
            " ",
        ]
    ),
    max_size=200,
).map("".join)


@given(st.one_of(st.binary(max_size=3000), EVIL.map(str.encode)))
def test_no_line_is_too_strange(raw: bytes) -> None:
    begin = time.process_time()
    scan([raw, b"---[ end trace", raw], "kernel.log", known_signatures(), nonce="n")
    assert time.process_time() - begin < 1.0
    text = parse_line(raw).text
    assert "\x1b" not in text
    assert len(text) <= LINE_LIMIT


def test_an_escape_sequence_in_the_log_reaches_no_terminal() -> None:
    (finding,) = findings("amdxdna: [drm] *ERROR* \x1b]0;owned\x07 smu cmd 3 timed out")
    assert "\x1b" not in finding.text
    assert "\x07" not in finding.text


@pytest.mark.real
def test_real_reports_of_users_get_their_class(real_data: Path) -> None:
    """Lines that people posted; the headline of each block says what it shows."""
    text = (real_data / "samples" / "dmesg_amdxdna_from_issues.txt").read_text("utf-8", "replace")
    blocks = dict(block.split("\n", 1) for block in text.split("##### ")[1:] if "\n" in block)
    seen = {head: {f.signature for f in findings(body)} for head, body in blocks.items()}

    def of(number: str) -> set[str]:
        return next(names for head, names in seen.items() if f"issue #{number} " in head)

    assert {"mbox-magic", "fw-not-alive", "smu-failed", "hw-start"} <= of("389")
    assert of("120") == {"driver-ready"}
    assert {"map-host"} <= of("1066")
    assert {"foreign-module", "fw-missing"} <= of("282")


@pytest.mark.real
def test_real_boot_logs_of_other_machines_raise_no_alarm_about_this_driver(real_data: Path) -> None:
    logs = sorted((real_data / "samples" / "kernel_logs").glob("*.log"))
    assert logs
    for log in logs:
        with log.open("rb") as handle:
            result = scan(bounded_lines(handle), log.name, known_signatures())
        assert [f for f in result.findings if f.driver] == []
        assert len(result.findings) < 30


def test_the_table_carries_sources_and_next_steps() -> None:
    signatures: tuple[Signature, ...] = known_signatures()
    assert len(signatures) >= 38
    for signature in signatures:
        assert signature.cause
        assert signature.source
        assert signature.next_step or signature.severity == "ok"
    assert json.dumps([s.id for s in signatures]).isascii()
