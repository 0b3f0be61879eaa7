"""How sure a difference of two failure rates is, from very few runs."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import comb


@dataclass(frozen=True)
class Tally:
    """``failed`` of ``runs`` boots. A boot is the unit: repeats inside one boot are not independent."""

    failed: int
    runs: int

    def __post_init__(self) -> None:
        if not 0 <= self.failed <= self.runs:
            raise ValueError(f"{self.failed} of {self.runs} runs failed: not a tally")


def probability_rate_rose(before: Tally, after: Tally) -> float:
    """P(failure rate after > failure rate before), each rate with a uniform prior (Beta-Binomial), exact.

    One run each, 0/1 then 1/1, gives 5/6; three each gives 0.986; no runs at all give 1/2. For
    X ~ Beta(a, b) and Y ~ Beta(c, d) with whole parameters, P(Y > X) is the sum over i < c of
    B(a+i, b+d) / ((d+i) B(1+i, d) B(a, b)).
    """
    a, b = before.failed + 1, before.runs - before.failed + 1
    c, d = after.failed + 1, after.runs - after.failed + 1
    total = Fraction(0)
    for i in range(c):
        total += (
            Fraction(1)
            / (_inverse_beta(a + i, b + d) * (d + i))
            * _inverse_beta(1 + i, d)
            * _inverse_beta(a, b)
        )
    return float(total)


def _inverse_beta(a: int, b: int) -> Fraction:
    """1 / B(a, b) for whole numbers: (a+b-1) * C(a+b-2, a-1)."""
    return Fraction((a + b - 1) * comb(a + b - 2, a - 1))
