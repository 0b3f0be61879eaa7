"""The lab's part of xdnawatch.toml, and names -> machines."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class MachineSettings(BaseModel):
    """``[[machine]]``: one device under test; exactly one of ``virtual`` and ``ssh``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    virtual: str | None = None  # a generation of the virtual NPU: "npu4"
    ssh: str | None = None  # "me@minipc" or a Host of the user's ssh configuration
