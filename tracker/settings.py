"""The tracker's part of xdnawatch.toml."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

# What is asked over the network: the protocols of its location, and an example of one.
REMOTE_KINDS: dict[str, tuple[tuple[str, ...], str]] = {
    "lore": (("https", "http"), "https://lore.kernel.org/dri-devel"),
    "nntp": (("nntps", "nntp"), "nntp://nntp.lore.kernel.org/org.freedesktop.lists.dri-devel"),
    "pipermail": (("https", "http"), "https://lists.freedesktop.org/archives/dri-devel"),
    "patchwork": (("https", "http"), "https://patchwork.kernel.org/project/dri-devel"),
}

# A branch or tag that cannot be taken for an option of git.
BRANCH = r"^[A-Za-z0-9][A-Za-z0-9._/-]*$"

# Where amd/xdna-driver keeps what the kernel has: its old driver (2024 on) and the staging tree that follows
# drm-misc (2026-02 on), read from its history.
TWIN_FOLDERS = {
    "src/driver/amdxdna": "drivers/accel/amdxdna",
    "drivers/accel/amdxdna": "drivers/accel/amdxdna",
    "src/include/uapi/drm_local/amdxdna_accel.h": "include/uapi/drm/amdxdna_accel.h",
    "include/uapi/drm_local/amdxdna_accel.h": "include/uapi/drm/amdxdna_accel.h",
    "include/uapi/drm/amdxdna_accel.h": "include/uapi/drm/amdxdna_accel.h",
    "include/trace/events/amdxdna.h": "include/trace/events/amdxdna.h",
}


class SourceSettings(BaseModel):
    """``[[source]]``: one place mail comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    kind: Literal[
        "mbox", "eml", "public-inbox", "lore", "nntp", "pipermail", "patchwork", "debian-changelog", "cve"
    ]
    location: str = Field(min_length=1)  # a path or a URL
    query: str | None = Field(
        default=None, min_length=1, max_length=2000
    )  # lore: instead of the driver's own
    contact: str | None = Field(default=None, pattern=r"^[ -~]{3,200}$")  # told to the servers we ask
    branch: str | None = Field(default=None, pattern=BRANCH)  # cve in git: instead of HEAD
    sample: bool = False

    @model_validator(mode="after")
    def _fits_its_kind(self) -> SourceSettings:
        schemes, example = REMOTE_KINDS.get(self.kind, ((), ""))
        if schemes and not self.location.startswith(tuple(f"{scheme}://" for scheme in schemes)):
            raise ValueError(f'kind = "{self.kind}" takes a location such as {example}')
        if self.query is not None and self.kind != "lore":
            raise ValueError('query goes with kind = "lore"; other kinds read everything')
        if self.branch is not None and self.kind != "cve":
            raise ValueError('branch goes with kind = "cve", and with a [[tree]]')
        return self


class TreeSettings(BaseModel):
    """``[[tree]]``: one git tree that is followed. One repository may serve several trees by ``branch``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    location: str = Field(min_length=1)
    role: Literal["mainline", "next", "maintainer", "stable", "twin", "firmware", "userspace"] = "mainline"
    branch: str = Field(default="HEAD", pattern=BRANCH)
    folders: dict[str, str] = Field(default_factory=dict)  # twin: path there -> path in the kernel
    prefix: str = Field(default="amdnpu/", pattern=r"^[A-Za-z0-9][\w.-]*/$")  # firmware: the driver's folder
    sample: bool = False

    @model_validator(mode="after")
    def _fits_its_role(self) -> TreeSettings:
        if self.folders and self.role != "twin":
            raise ValueError('folders goes with role = "twin"')
        for path in (*self.folders, *self.folders.values()):
            if not path.strip("/") or path.startswith(("/", "-", ":")) or ".." in path.split("/"):
                raise ValueError(f"folders: {path!r} is no path relative to the top of a tree")
        return self

    @property
    def kernel_paths(self) -> dict[str, str]:
        """Of a twin: path there -> path in the kernel, without final slashes."""
        found = self.folders or TWIN_FOLDERS
        return {there.rstrip("/"): here.rstrip("/") for there, here in found.items()}


class DriverProfile(BaseModel):
    """``[driver]``: which driver is followed.

    The defaults are amdxdna's (MAINTAINERS of v7.3, "AMD XDNA DRIVER").

    ``paths`` are files, or folders without the final slash. ``subject_words`` name the driver in a
    subject as whole words ("accel/amdxdna: ..." has the word "amdxdna"). ``companions_up_to`` is the
    largest series of which also the patches that do not touch the driver are kept, as context.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "amdxdna"
    paths: tuple[str, ...] = (
        "drivers/accel/amdxdna",
        "include/uapi/drm/amdxdna_accel.h",
        "Documentation/accel/amdxdna",
        "include/trace/events/amdxdna.h",
    )
    subject_words: tuple[str, ...] = ("amdxdna",)
    companions_up_to: int = Field(default=12, ge=0, le=100)

    @field_validator("paths", "subject_words")
    @classmethod
    def _some(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or any(not entry.strip("/ ") for entry in value):
            raise ValueError("at least one entry, none of them empty")
        return value

    @field_validator("paths")
    @classmethod
    def _relative(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if any(path.startswith(("/", "-", ":")) or ".." in path.split("/") for path in value):
            raise ValueError("paths are relative to the top of the kernel tree")
        return tuple(path.rstrip("/") for path in value)

    def owns(self, path: str) -> bool:
        """Whether a file of the kernel tree is the driver's."""
        return any(path == own or path.startswith(own + "/") for own in self.paths)

    def owns_any(self, paths: tuple[str, ...] | list[str]) -> bool:
        """Whether one of the files is the driver's."""
        return any(self.owns(path) for path in paths)

    def named_in(self, subject: str) -> bool:
        """Whether a subject or a title names the driver."""
        return self._words.search(subject) is not None

    @cached_property
    def _words(self) -> re.Pattern[str]:
        words = "|".join(re.escape(word) for word in self.subject_words)
        return re.compile(rf"(?<![\w-])(?:{words})(?![\w-])", re.IGNORECASE | re.ASCII)

    @cached_property
    def needles(self) -> tuple[str, ...]:
        """Texts in lower case, of which every subject that names the driver and every text with one of its
        paths contains at least one; no blank in them, because a subject may be folded.

        A needle that contains another is left out: amdxdna's four paths and its word are one search.
        """
        every = {max(entry.lower().split(), key=len) for entry in (*self.paths, *self.subject_words)}
        return tuple(sorted(one for one in every if not any(two in one for two in every - {one})))
