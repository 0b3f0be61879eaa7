"""Which module brings which command, and the line that a list shows of it: the first of its own help."""

from __future__ import annotations

from xdnawatch.cli.late import Late, Table

TRACK: Table = {
    "sync": Late("Bring the sources of the settings into the database, then work out changes and windows.", "track_sync"),
    "changes": Late("List changes: state, release, title. The latest first.", "track"),
    "show": Late("Show one change whole: its answer, the evidence, every posting, every commit.", "track"),
    "window": Late("Show what one release carries: merge window, fixes, reverts, and what is forecast for it.", "track"),
    "stable": Late("Show what the stable branches carry, what waits, and which fixes they lack.", "track_more"),
    "where": Late('Answer "which kernel has this?": mainline, other trees, stable branches, distributions.', "track_more"),
    "abi": Late("Show what a change touches that others rely on, with a verdict about the user interface.", "track_more"),
    "digest": Late("Print what happened in a week as plain text, ready to be mailed.", "track_more"),
    "cve": Late("Show the driver's CVE records, and whether they agree with what the branches carry.", "track_around"),
    "twin": Late("Show which commits of the out-of-tree driver are upstream, which are not, and who was first.", "track_around"),
    "firmware": Late("Show which firmware the kernels ask for, since which firmware release it is there, and what fails.", "track_around"),
    "userspace": Late("Show the releases of user space (XRT, amd/xdna-driver): what they pin and which kernels they fit.", "track_around"),
    "forecast": Late("Show the dates of the coming -rc and release with their ranges, or when one change will be in them.", "forecast"),
    "next": Late("List what is applied, queued or landed and not yet released: in which release it will be, and when.", "forecast"),
    "backtest": Late("Replay the past day by day: how often the forecasts were right, and how honest the probabilities.", "forecast"),
    "truth": Late('Measure recall and precision of "this mail became this commit" on pairs that are known.', "track_study"),
    "versions": Late("Measure how many series of version 2 or more are tied to an earlier version, and how rightly.", "track_study"),
}  # fmt: skip

RUNS: Table = {
    "list": Late("List runs, newest first.", "runs"),
    "show": Late("Show one run again, from its folder.", "runs"),
}

MATRIX: Table = {
    "faults": Late("Run each fault with the tests that make it strike, then the machine once without it, and judge both.", "matrix"),
    "environments": Late("Break a guest in each known way, let `doctor` and `run` look at it over SSH, and judge what they say.", "environments"),
    "repeat": Late("Run the whole suite again and again and say which verdicts and which tests did not stay the same.", "repeat"),
}  # fmt: skip

LAB: Table = {
    "fetch": Late("Download and prepare all that a boot needs: QEMU, the guest image, kernels. Resumes when interrupted.", "lab"),
    "kernels": Late("List the Debian kernels that can be booted, and which of them are in the cache.", "lab"),
    "machines": Late("List the machines: those of xdnawatch.toml, then the built-in virtual ones.", "lab"),
    "shell": Late("Boot a machine and open an interactive shell on it; the machine ends with the shell.", "lab"),
}  # fmt: skip

PROGRAM: Table = {
    "track": Late(
        "Follow mail and git: which kernel release carries which change, and why.",
        commands=TRACK,
        epilog="States: posted, reviewed, changes-requested, superseded, applied (in a maintainer's tree), "
        "queued (linux-next or pulled), landed (mainline), released, reverted, dropped.",
    ),
    "run": Late("Boot a kernel on a machine, prove that it is that kernel, run the ioctl suite, judge it.", "run"),
    "runs": Late("The runs that were made.", commands=RUNS),
    "infer": Late("Run what people run on the NPU, compare what it says with the driver, and measure it.", "infer"),
    "nightly": Late("Run every cell of the [nightly] matrix without a verdict, one after the other or --jobs at once.", "nightly"),
    "matrix": Late(
        "Cells that try the harness itself: faults, broken environments, and one cell often.", commands=MATRIX
    ),
    "bisect": Late("Find the kernel or the driver commit that broke (or mended) a test.", "bisect"),
    "compare": Late("What differs between two kernels on one machine: results, recorded values, log findings, figures.", "publish"),
    "publish": Late("Write everything that is known as a static site, and print the path of its front page.", "publish"),
    "doctor": Late("Say why the NPU does not work here: a checklist with the cause and the next step for each failure.", "doctor"),
    "lab": Late("The virtual machine's parts, the machines, a shell on one.", commands=LAB),
    "demo": Late("Do the main job once: track, boot two kernels on the virtual NPU, compare, publish.", "demo"),
}  # fmt: skip
