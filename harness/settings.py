"""The harness's sections of xdnawatch.toml."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class RunSettings(BaseModel):
    """``[run]``: how runs are made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    watchdog: Literal["auto", "off"] = "auto"  # arm a hardware watchdog in the machine around the suite


class NightlySettings(BaseModel):
    """``[nightly]``: the matrix that `xdnawatch nightly` works through, one cell after the other."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    machines: tuple[str, ...] = ()  # names as `xdnawatch run --machine` takes them
    kernels: tuple[str, ...] = ()  # versions; ignored for a machine that only shows what it runs now
    suites: tuple[Literal["ioctl", "inference"], ...] = Field(default=("ioctl",), min_length=1)
    attempts: int = Field(default=2, ge=1, le=10)  # of a cell that infrastructure spoiled, over all nights
    retest_after_days: int | None = Field(default=None, ge=1)  # judge a cell again when its verdict is older
