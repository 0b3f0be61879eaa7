"""How a verdict, an outcome or a state is shown: its tone, its shape and one line that says what it means.

Never colour alone: each tone has a shape of its own, and the word stands beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Tone = Literal["good", "bad", "doubt", "calm", "busy", "none"]


@dataclass(frozen=True)
class Mark:
    """A word with its tone; ``meaning`` is shown in titles and legends."""

    word: str
    tone: Tone
    meaning: str


NO_RUN = Mark("no run", "none", "Nothing has been run here.")

VERDICTS: dict[str, Mark] = {
    mark.word: mark
    for mark in (
        Mark("pass", "good", "Every test that could run passed."),
        Mark("fail", "bad", "At least one test failed; the kernel stayed up."),
        Mark("panic", "bad", "The kernel panicked."),
        Mark("hang", "bad", "The machine stopped answering."),
        Mark("no-boot", "bad", "The kernel never came up."),
        Mark("wrong-kernel", "doubt", "Another kernel than the requested one was booted: no judgement."),
        Mark("environment", "doubt", "IOMMU, firmware, permission or a foreign module was in the way."),
        Mark("model-gap", "doubt", "The virtual NPU lacks what the driver asked for: no judgement."),
        Mark("infrastructure", "doubt", "The laboratory failed, not the kernel."),
        Mark("interrupted", "doubt", "The run was stopped before its end; results so far are kept."),
    )
}
RUNNING = Mark("running", "busy", "The run has not ended yet.")

OUTCOMES: dict[str, Mark] = {
    mark.word: mark
    for mark in (
        Mark("passed", "good", "The test passed."),
        Mark("failed", "bad", "An assertion of the test failed."),
        Mark("error", "bad", "The test could not be set up or torn down."),
        Mark("incomplete", "bad", "The machine died during this test."),
        Mark("skipped", "calm", "The test says why it cannot run here."),
        Mark("not-run", "doubt", "The run ended before this test."),
    )
}

SUSPECTED = Mark("suspected", "doubt", "Fails as a known candidate defect of the driver does.")

STATES: dict[str, Mark] = {
    mark.word: mark
    for mark in (
        Mark("posted", "calm", "On the list, no answer yet."),
        Mark("reviewed", "busy", "Has a Reviewed-by or an Acked-by."),
        Mark("changes-requested", "doubt", "A reviewer asked for changes."),
        Mark("superseded", "calm", "A newer version replaced it."),
        Mark("applied", "busy", "In a maintainer's tree."),
        Mark("queued", "busy", "In linux-next or pulled."),
        Mark("landed", "good", "In mainline, under a release candidate."),
        Mark("released", "good", "In a released kernel."),
        Mark("reverted", "bad", "Landed and taken out again."),
        Mark("dropped", "doubt", "Withdrawn or abandoned."),
    )
}

STANDINGS: dict[str, Mark] = {
    mark.word: mark
    for mark in (
        Mark("new failure", "bad", "Passed in the baseline, fails here."),
        Mark("still failing", "bad", "Failed in the baseline too."),
        Mark("failing", "bad", "Fails; the baseline has no result to compare with."),
        Mark("fixed", "good", "Failed in the baseline, passes here."),
        Mark("passing", "good", "Passes, as in the baseline."),
        Mark("newly skipped", "doubt", "Ran in the baseline, skipped here."),
        Mark("skipped", "calm", "Skipped, as in the baseline."),
        Mark("not run", "doubt", "The run ended before this test."),
        Mark("missing", "doubt", "The baseline has this test, the run has not."),
        Mark("flaky", "doubt", "Passed and failed under the same kernel in the same environment."),
    )
}

STEPS: dict[str, Mark] = {
    mark.word: mark
    for mark in (
        Mark("good", "good", "The test passed with this candidate."),
        Mark("bad", "bad", "The test failed with this candidate."),
        Mark("skip", "doubt", "This candidate could not be judged."),
    )
}

PHASES: dict[str, Mark] = {
    mark.word: mark
    for mark in (
        Mark("running", "busy", "Work goes on."),
        Mark("finished", "good", "Ended with an answer."),
        Mark("interrupted", "doubt", "Stopped; running it again goes on from here."),
        Mark("failed", "bad", "Ended without an answer."),
    )
}

BACKPORTS: dict[str, Mark] = {
    mark.word: mark
    for mark in (
        Mark("missing", "bad", "The branch needs it and has it not."),
        Mark("failed", "bad", "It was tried and does not apply to the branch."),
        Mark("reverted", "doubt", "The branch took it and put it out again."),
        Mark(
            "unknown", "doubt", "What it fixes touches no followed file: whether it is needed is not known."
        ),
        Mark("queued", "busy", "On its way: under review, or in the branch without a tag."),
        Mark("present", "good", "An update of the branch has it."),
        Mark("not-needed", "calm", "What it fixes is not in the branch, or nobody asked for it."),
    )
}

CARRIES: dict[str, Mark] = {
    mark.word: mark
    for mark in (
        Mark("yes", "good", "The newest kernel there has it."),
        Mark("queued", "busy", "On its way."),
        Mark("forecast", "busy", "Expected, not there yet."),
        Mark("no", "calm", "It is not there."),
        Mark("unknown", "doubt", "It cannot be told from what is followed."),
    )
}

ABI: dict[str, Mark] = {
    mark.word: mark
    for mark in (
        Mark("breaking", "bad", "A program built against the older header can fail."),
        Mark("check", "doubt", "The patch alone does not show it: somebody has to look."),
        Mark("compatible", "good", "Something new, or grown at its end: older programs go on working."),
        Mark("none", "calm", "The user interface is as it was."),
    )
}

CHECKS: dict[str, Mark] = {
    mark.word: mark
    for mark in (
        Mark("differ", "bad", "The record says something else than the branch's commits."),
        Mark("unknown", "doubt", "One of the two sides says nothing here."),
        Mark("agree", "good", "The record and the commits say the same."),
    )
}

NEEDS: dict[str, Mark] = {
    mark.word: mark
    for mark in (
        Mark("never", "bad", "Kernels ask for it and no firmware release has it."),
        Mark("withdrawn", "bad", "It was in a firmware release and was taken out."),
        Mark("late", "doubt", "A kernel that asks for it was released before it."),
        Mark("fits", "good", "It was released before the first kernel that asks for it."),
        Mark("unasked", "calm", "No known kernel asks for it."),
        Mark("unknown", "doubt", "No firmware tree is followed, or its dates are not known."),
    )
}

TWINS: dict[str, Mark] = {
    mark.word: mark
    for mark in (
        Mark("twin-only", "doubt", "Not upstream, as far as is known."),
        Mark("posted", "busy", "On a mailing list only."),
        Mark("applied", "busy", "In a maintainer's tree."),
        Mark("upstream", "good", "In mainline, stable or linux-next."),
        Mark("undone", "calm", "Reverted in the out-of-tree driver."),
        Mark("sync", "calm", "Takes code over from the kernel and names no change."),
    )
}

SEVERE = frozenset({"panic", "crash", "probe-fail", "load-fail", "open-fail", "create-fail", "resume-fail"})


def verdict_mark(verdict: str | None, state: str = "finished") -> Mark:
    """The mark of a run; a verdict nobody taught us is shown as it is, in doubt."""
    if verdict is None:
        return VERDICTS["interrupted"] if state == "interrupted" else RUNNING
    return _known(VERDICTS, verdict)


def outcome_mark(outcome: str, suspect: str | None = None) -> Mark:
    """The mark of one test's outcome; ``suspect`` is the known candidate defect it is about, if any."""
    if suspect and outcome in ("failed", "error"):
        return SUSPECTED
    return _known(OUTCOMES, outcome)


def state_mark(state: str) -> Mark:
    """The mark of a change's state."""
    return _known(STATES, state)


def standing_mark(standing: str) -> Mark:
    """The mark of a test against its baseline."""
    return _known(STANDINGS, standing)


def backport_mark(state: str) -> Mark:
    """The mark of a change in a stable branch."""
    return _known(BACKPORTS, state)


def carries_mark(word: str) -> Mark:
    """The mark of a line of kernels that has a change, or has not."""
    return _known(CARRIES, word)


def abi_mark(verdict: str) -> Mark:
    """The mark of a change's verdict about the user interface."""
    return _known(ABI, verdict)


def check_mark(verdict: str) -> Mark:
    """The mark of a CVE record against the commits."""
    return _known(CHECKS, verdict)


def need_mark(verdict: str) -> Mark:
    """The mark of a firmware name."""
    return _known(NEEDS, verdict)


def twin_mark(status: str) -> Mark:
    """The mark of a commit of an out-of-tree driver."""
    return _known(TWINS, status)


def step_mark(verdict: str) -> Mark:
    """The mark of one step of a bisection."""
    return _known(STEPS, verdict)


def phase_mark(state: str) -> Mark:
    """The mark of a campaign's state."""
    return _known(PHASES, state)


def finding_tone(klass: str, severity: str) -> Tone:
    """How loud a log finding is shown."""
    if severity in SEVERE or klass == "hang":
        return "bad"
    if severity in ("ok", "info", "reject", "unsupported") and klass != "suspect":
        return "calm"
    return "doubt"


def _known(table: dict[str, Mark], word: str) -> Mark:
    return table.get(word) or Mark(word[:40], "doubt", "A word this version of the reports does not know.")
