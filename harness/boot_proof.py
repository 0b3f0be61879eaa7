"""Does the machine run what was asked? Each proof on its own, so that a page can show them (pure).

A boot loader may fall back, a one-shot entry may be gone, a DKMS module may stand in the way: a result
without these proofs may be about another kernel. Facts: harness.examine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NONCE_KEY = "xdnawatch.nonce"  # on the kernel command line, set by the lab


@dataclass(frozen=True)
class Expectation:
    """What the facts must show; None where nothing is known to compare with."""

    release: str | None = None
    nonce: str | None = None
    previous_boot_id: str | None = None  # of the boot before: the new one must differ
    kernel_build_id: str | None = None
    module_build_id: str | None = None
    out_of_tree_allowed: bool = True  # False: a stock kernel must run its own module


@dataclass(frozen=True)
class ProofResult:
    """One proof. Where ``expected`` is None the value is only noted, and it holds."""

    name: str
    expected: str | None
    seen: str | None
    holds: bool


def prove(facts: Mapping[str, Any], expectation: Expectation) -> tuple[ProofResult, ...]:
    """Every proof these facts allow, in the order in which a person would ask.

    ``facts`` is harness.examine's object. A module that is not loaded is not "the wrong module": that is
    left to the verdict, which knows why it did not load.
    """
    kernel = _part(facts, "kernel")
    module = _part(facts, "module")
    proofs = [
        _boot_id(kernel.get("boot_id"), expectation.previous_boot_id),
        _equal("release", expectation.release, kernel.get("release")),
    ]
    if expectation.nonce is not None:
        seen = nonce_of(str(kernel.get("command_line") or ""))
        proofs.append(_equal("nonce", expectation.nonce, seen))
    proofs.append(_equal("kernel-build-id", expectation.kernel_build_id, kernel.get("build_id")))
    if module.get("loaded"):
        proofs.append(_equal("module-build-id", expectation.module_build_id, module.get("build_id")))
        proofs.append(_equal("module-srcversion", None, module.get("srcversion")))
        taint = str(module.get("taint") or "")
        proofs.append(
            ProofResult(
                "module-origin",
                None if expectation.out_of_tree_allowed else "in-tree",
                "out-of-tree" if "O" in taint else "in-tree",
                expectation.out_of_tree_allowed or "O" not in taint,
            )
        )
    return tuple(proofs)


def nonce_of(command_line: str) -> str | None:
    """The nonce on a kernel command line, the last one when there are several."""
    found = [word.split("=", 1)[1] for word in command_line.split() if word.startswith(NONCE_KEY + "=")]
    return found[-1] if found else None


def _part(facts: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = facts.get(name)
    return part if isinstance(part, Mapping) else {}


def _equal(name: str, expected: str | None, seen: Any) -> ProofResult:
    text = None if seen is None else str(seen)
    return ProofResult(name, expected, text, expected is None or text == expected)


def _boot_id(seen: Any, previous: str | None) -> ProofResult:
    text = None if seen is None else str(seen)
    if previous is None:
        return ProofResult("boot-id", None, text, holds=True)
    return ProofResult("boot-id", f"not {previous}", text, holds=text is not None and text != previous)
