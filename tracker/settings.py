"""The tracker's part of xdnawatch.toml."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class SourceSettings(BaseModel):
    """``[[source]]``: one place mail comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    kind: Literal["mbox", "eml", "public-inbox"]
    location: str = Field(min_length=1)  # a path or a git URL
    sample: bool = False


class TreeSettings(BaseModel):
    """``[[tree]]``: one git tree that is followed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    location: str = Field(min_length=1)
    role: Literal["mainline", "next", "maintainer", "stable", "twin"] = "mainline"
    sample: bool = False
