"""The contract between the suite on the machine and whoever started it.

This module is the only one of the suite that the host imports as well: which files to copy, which command to
run, and the shape of every JSON line that comes back. It decides nothing about results.

The machine needs Python >= 3.11 and pytest >= 8, nothing else; root is not needed, but without it the
kernel log and the power states cannot be reached and the tests that need them are skipped with that reason.

An event is one line of JSON (ASCII, at most LINE_LIMIT bytes with its newline), written with ``write(2)`` as
it happens, a result with the start that follows at once: a machine that dies has said everything up to its
last test. Every event has

    event  str    its kind, below
    n      int    0, 1, 2, ... : a gap means lost lines
    t      float  seconds of the machine's monotonic clock since ``begin``

and, by kind and in this order:

``begin``
    schema int (SCHEMA), time float (UNIX time UTC by the machine's clock), nonce str, kernel str (uname -r),
    machine str (uname -m), boot_id str, python str, pytest str, uid int
``environment``
    device object|null {node, pci, vendor, device, revision, generation, driver_version [M, m, p], vbnv,
    fw_version}, missing list of {kind, message} (empty: the device can be tested),
    facts object {taint int|null, module_srcversion str|null, kernel_log bool, ...},
    depends object, may be absent: what the results depend on besides the examined machine (versions of the
    programs that are used ...); the same from run to run while nothing was installed
``collected``
    tests list of {id, title, markers [str], suspect str|null}, deselected int, more bool: a long collection
    comes in several events, all but the last with more == true
``collect-error``
    id str (the file), message str: this file could not be imported; comes before ``collected``
``start``
    id str
``result``
    id str, outcome "passed"|"failed"|"skipped"|"error", when "setup"|"call"|"teardown" (the phase that
    decided), duration float (seconds of the three phases), message str|null (why it failed), reason str|null
    (why it was skipped), suspect str|null, values object {name: JSON value},
    expectations list of {key, expected, kind "initial"|"feature"|"change"|"fix", carried bool, since [str],
    until [str], source str}: a fix that is not carried explains a failure on that kernel
``end``
    status int (pytest's exit status), passed int, failed int, skipped int, error int, duration float

"failed" says that the kernel or device did something else than expected; "error" that the test could not be
prepared or cleaned up. A ``start`` without its ``result`` is the test during which the machine or the suite
died. A skipped test whose ``reason`` begins with "environment: " was not run because of the machine, not the
kernel. ``suspect`` names a known candidate defect of the driver: its failure is a finding, kept as such.

Log lines: when /dev/kmsg can be written, each test is bracketed in the kernel log by
    xdnawatch: <nonce> start <id>
    xdnawatch: <nonce> finish <id> <outcome>
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

SCHEMA = 1
LINE_LIMIT = 65536  # bytes of one event line, newline included
TEXT_LIMIT = 8000  # characters of one message or reason
EVENTS = ("begin", "environment", "collected", "collect-error", "start", "result", "end")
ENVIRONMENT_PREFIX = "environment: "
NONCE_VARIABLE = "XDNAWATCH_NONCE"
TESTS = "harness/suite/tests"
# What the suite does not use; without them a run in a simulated machine is a fifth shorter.
UNUSED_PLUGINS = (
    "cacheprovider",
    "debugging",
    "doctest",
    "legacypath",
    "logging",
    "pastebin",
    "setuponly",
    "setupplan",
    "stepwise",
    "subtests",
    "terminal",
    "terminalprogress",
    "threadexception",
    "unittest",
    "unraisableexception",
    "warnings",
)


def files() -> Mapping[str, bytes]:
    """Everything to copy to the machine: path relative to the suite's root -> content."""
    here = Path(__file__).parent
    found = {
        f"harness/suite/{path.relative_to(here).as_posix()}": path.read_bytes()
        for path in sorted(here.rglob("*.py"))
    }
    return {"harness/__init__.py": b"", **found}


def command(
    root: str,
    nonce: str,
    *,
    python: str = "python3",
    tests: Sequence[str] = (),
    pm: bool = False,
    crash: bool = False,
    stress: bool = False,
    fuzz: float = 0.0,
    seed: int | None = None,
    node: str | None = None,
) -> tuple[str, ...]:
    """The command to run on the machine, after ``files()`` were written below ``root`` (an absolute path).

    Its standard output carries event lines only; everything else goes to standard error. ``tests`` are ids
    as in the events ("test_query.py::test_aie_version"), none means all. ``pm`` adds the tests that wait for
    the device to sleep, ``crash`` those that are known to kill some kernels (they run last), ``stress``
    races, unbinding, reloading and resets, ``fuzz`` random programs for so many seconds; ``seed`` begins
    both. Exit status is pytest's: 0 all passed or skipped, 1 a test failed, 2..5 no verdict.
    """
    folder = PurePosixPath(root)
    where = folder / TESTS
    extra = [
        *(["--pm"] if pm else []),
        *(["--crash"] if crash else []),
        *(["--stress"] if stress else []),
        *([f"--fuzz={fuzz:g}"] if fuzz else []),
        *([f"--seed={seed}"] if seed is not None else []),
        *([f"--npu-node={node}"] if node else []),
    ]
    return (
        "env",
        f"PYTHONPATH={folder}",
        "PYTHONDONTWRITEBYTECODE=1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD=1",
        f"{NONCE_VARIABLE}={nonce}",
        python,
        "-m",
        "pytest",
        "-c",
        "/dev/null",
        f"--rootdir={where}",
        "-p",
        "harness.suite.reporter",
        *(word for name in UNUSED_PLUGINS for word in ("-p", f"no:{name}")),
        "--strict-markers",
        "--assert=plain",  # harness.suite.explain says what was compared
        "--capture=no",  # what a test prints is on standard error
        "--event-fd=1",
        *extra,
        *([str(where / test) for test in tests] or [str(where)]),
    )
