"""The harness's part of xdnawatch.toml."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class NightlySettings(BaseModel):
    """``[nightly]``: the matrix that is run every night."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    machines: tuple[str, ...] = ()
    kernels: tuple[str, ...] = ()
