"""The driver's sources at any commit of a git repository, read without a checkout.

Plumbing only: ``rev-list``-style log for the candidates, ``ls-tree`` for a commit's files, one ``cat-file
--batch`` for their content. No work tree, so a bare clone, a partial one (big blobs absent) and a repository
that someone else is using all serve (facts module-build.md section 3b).

The repository is foreign: titles are cleaned, paths checked, links refused, sizes bounded.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import ClassVar

from harness.errors import HarnessError
from harness.untrusted import clean

GIT_TIMEOUT = 120.0  # seconds, one git command
FILES_LIMIT = 5_000  # files of one driver tree; the real one has about 70
BYTES_LIMIT = 64 << 20  # of one driver tree; the real one has about 1 MB
TITLE_LIMIT = 300  # characters

DRIVER = "drivers/accel/amdxdna"
CONFIGURE = "drivers/accel/tools/configure_kernel.sh"
HEADERS = ("include/uapi/drm/amdxdna_accel.h", "include/trace/events/amdxdna.h")


class HistoryError(HarnessError):
    """The repository or a name in it cannot be used."""

    exit_code: ClassVar[int] = 2


class SourcesError(HarnessError):
    """One commit's sources cannot be had: it is skipped, the history as a whole is fine."""


@dataclass(frozen=True)
class Layout:
    """Where a repository keeps the driver, and which files the module is made of."""

    name: str
    marker: str  # the path whose presence tells the layout
    driver: str  # folder with the Kbuild file, "" for the repository's root
    paths: tuple[str, ...]  # of the commits that count and of the files to take; empty: everything


#: The first whose marker a commit has. In the vendor's repository the driver moved to drivers/accel in
#: 4681c32e (2026-03-01); older commits match no layout, and none of them runs on a kernel from 7.1 on.
LAYOUTS = (
    Layout("vendor", CONFIGURE, DRIVER, (DRIVER, CONFIGURE, *HEADERS)),
    Layout("in-tree", f"{DRIVER}/Makefile", DRIVER, (DRIVER, *HEADERS)),
    Layout("module", "Kbuild", "", ()),
)


@dataclass(frozen=True)
class DriverCommit:
    """One commit that touches the module. ``parents`` are rewritten to commits of the same list."""

    sha: str
    title: str
    author: str
    parents: tuple[str, ...]


@dataclass(frozen=True)
class SourceFile:
    """One file of a commit: path below the repository's root, git mode and blob id."""

    path: str
    executable: bool
    blob: str


@dataclass(frozen=True)
class Sources:
    """The files a module is built from; ``digest`` names their content, not the commit."""

    layout: Layout
    files: tuple[SourceFile, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over layout, paths, modes and blob ids: equal for a commit and a revert of its revert."""
        listing = [self.layout.name, [[f.path, f.executable, f.blob] for f in self.files]]
        return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


class DriverHistory:
    """One git repository that holds the driver."""

    def __init__(self, repository: Path) -> None:
        self.repository = repository
        if not repository.is_dir():
            raise HistoryError(f"{repository} is no folder; give the path of a git repository of the driver")
        try:
            self._git("rev-parse", "--git-dir")
        except SourcesError as error:
            raise HistoryError(f"{repository} is no git repository ({error})") from error

    def resolve(self, name: str) -> str:
        """The commit id of a revision. HistoryError when there is none of this name."""
        try:
            text = self._git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        except SourcesError as error:
            raise HistoryError(
                f"{self.repository} has no commit {name!r}; name a commit, branch or tag"
            ) from error
        return text.decode().strip()

    def is_ancestor(self, older: str, newer: str) -> bool:
        """Whether one commit is in the other's history."""
        return self._git("merge-base", "--all", older, newer, answers=(0, 1)).decode().split() == [older]

    def commits(self, good: str, bad: str) -> tuple[DriverCommit, ...]:
        """From the good end to the bad end, oldest first, only what touches the module.

        The first entry is ``good`` itself and has no parents; the last is the newest commit up to ``bad``
        that touches the module. HistoryError when ``good`` is no ancestor of ``bad`` or nothing lies between.
        """
        first, last = self.resolve(good), self.resolve(bad)
        if not self.is_ancestor(first, last):
            raise HistoryError(f"{good} is no ancestor of {bad}: a culprit between them cannot be searched")
        try:
            layout = self.layout(last)
        except SourcesError as error:
            raise HistoryError(str(error)) from error
        found = self._log("--topo-order", "--reverse", "--parents", f"{first}..{last}", "--", *layout.paths)
        if not found:
            raise HistoryError(
                f"no commit between {good} and {bad} touches the driver ({layout.name} layout)"
            )
        known = {commit.sha for commit in found}
        ordered = [DriverCommit(first, *self._title(first), ())]
        for commit in found:
            inside = tuple(parent for parent in commit.parents if parent in known)
            ordered.append(DriverCommit(commit.sha, commit.title, commit.author, inside or (first,)))
        return tuple(ordered)

    def layout(self, sha: str) -> Layout:
        """How this commit keeps the driver. SourcesError when no known layout fits."""
        markers = [layout.marker for layout in LAYOUTS]
        present = set(self._git("ls-tree", "-z", "--name-only", sha, "--", *markers).decode().split("\0"))
        for layout in LAYOUTS:
            if layout.marker in present:
                return layout
        raise SourcesError(f"{sha[:12]} keeps the driver in none of the known places ({', '.join(markers)})")

    def sources(self, sha: str) -> Sources:
        """The files of the module at a commit. SourcesError when they cannot be taken."""
        layout = self.layout(sha)
        listing = self._git("ls-tree", "-r", "-z", sha, "--", *layout.paths)
        files = []
        for entry in listing.split(b"\0"):
            if not entry:
                continue
            meta, _, raw_path = entry.partition(b"\t")
            mode, kind, blob = meta.decode("ascii").split()
            path = _safe_path(raw_path, sha)
            if kind == "commit":
                continue  # a submodule: nothing of the driver
            if mode not in ("100644", "100755"):
                raise SourcesError(f"{sha[:12]}: {path} is no regular file (mode {mode})")
            files.append(SourceFile(path, mode == "100755", blob))
        if len(files) > FILES_LIMIT:
            raise SourcesError(f"{sha[:12]} has {len(files)} files where a driver has at most {FILES_LIMIT}")
        return Sources(layout, tuple(files))

    def write(self, sources: Sources, folder: Path) -> None:
        """Write the files below ``folder``. SourcesError when the repository lacks a blob."""
        wanted = "".join(f"{file.blob}\n" for file in sources.files).encode()
        stream = self._git("cat-file", "--batch", stdin=wanted)
        position = written = 0
        for file in sources.files:
            end = stream.index(b"\n", position)
            words = stream[position:end].split()
            if len(words) != 3 or words[1] != b"blob":
                raise SourcesError(
                    f"the repository does not hold the content of {file.path} (a partial clone?)"
                )
            size = int(words[2])
            written += size
            if written > BYTES_LIMIT:
                raise SourcesError(f"the driver's sources are larger than {BYTES_LIMIT >> 20} MiB")
            target = folder / file.path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(stream[end + 1 : end + 1 + size])
            if file.executable:
                target.chmod(0o755)
            position = end + 1 + size + 1

    def _title(self, sha: str) -> tuple[str, str]:
        commit = self._log("--no-walk", sha)[0]
        return commit.title, commit.author

    def _log(self, *arguments: str) -> list[DriverCommit]:
        text = self._git("log", "-z", "--format=%H%x1f%P%x1f%an%x1f%s", *arguments).decode("utf-8", "replace")
        commits = []
        for record in text.split("\0"):
            if not record:
                continue
            sha, parents, author, title = record.split("\x1f", 3)
            commits.append(
                DriverCommit(
                    sha, clean(title, TITLE_LIMIT), clean(author, TITLE_LIMIT), tuple(parents.split())
                )
            )
        return commits

    def _git(self, *arguments: str, stdin: bytes | None = None, answers: tuple[int, ...] = (0,)) -> bytes:
        # A partial clone must say what it lacks instead of asking a server for it.
        environment = {**os.environ, "LC_ALL": "C", "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0"}
        command: Sequence[str] = ["git", "-C", str(self.repository), "--no-pager", *arguments]
        try:
            result = subprocess.run(
                command,
                input=stdin or b"",
                capture_output=True,
                timeout=GIT_TIMEOUT,
                env=environment,
                check=False,
            )
        except FileNotFoundError as error:
            raise HistoryError("git is not installed; install it to read a driver's history") from error
        except subprocess.TimeoutExpired as error:
            raise SourcesError(f"git {arguments[0]} ran past {GIT_TIMEOUT:.0f} s") from error
        if result.returncode not in answers:
            reason = clean(result.stderr.decode("utf-8", "replace"), 500).strip().splitlines()
            raise SourcesError(reason[-1] if reason else f"git {arguments[0]} says no")
        return result.stdout


def _safe_path(raw: bytes, sha: str) -> str:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SourcesError(f"{sha[:12]} has a file whose name is no UTF-8") from error
    path = PurePosixPath(text)
    if path.is_absolute() or not path.parts or {"..", ".git"} & set(path.parts) or "\n" in text:
        raise SourcesError(f"{sha[:12]} has a file with an impossible name {clean(text, 100)!r}")
    return text
