"""One git repository: opened and checked through GitPython, read in bulk through plumbing streams.

GitPython is used where it is strong (opening, validation, clones with progress). Bulk reading goes through
one long-lived ``git cat-file --batch`` and streamed ``git rev-list``: measured 4 times GitPython and 46
times one process an object. Nothing here knows what a commit means.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import git
from git.exc import GitCommandError, InvalidGitRepositoryError, NoSuchPathError

from tracker.errors import GitError, NotARepositoryError
from tracker.progress import Progress

PIPE_BYTES = 1024 * 1024  # that git may write ahead, so that it and the reader work at the same time
GIT_TIMEOUT = 120.0  # seconds for a short plumbing command
# Our own environment: no prompts, no pager, plain English, and no lazy work in the user's repository.
_ENVIRONMENT = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_PAGER": "cat"}
# git maps whole packs by default; a list's archive has a gigabyte of them.
_LITTLE_MEMORY = ("-c", "core.packedGitWindowSize=4m", "-c", "core.packedGitLimit=64m")


@dataclass(frozen=True)
class Ref:
    """A tag, peeled to its commit. ``date`` is the tagger's, or the commit's for a light tag."""

    name: str
    commit: str
    date: datetime | None


@dataclass(frozen=True)
class Blob:
    """One answer of ``cat-file``: the name asked for, and the content (None when missing or too large)."""

    name: str
    data: bytes | None
    size: int


@dataclass(frozen=True)
class Entry:
    """One path of a commit: ``kind`` is blob or commit (a submodule), ``object_id`` what it holds."""

    path: str
    kind: str
    object_id: str


class Repository:
    """A git repository on this machine."""

    def __init__(self, path: Path) -> None:
        """Raises NotARepositoryError when there is none at ``path``."""
        try:
            opened = git.Repo(path, search_parent_directories=False)
            self.git_dir = Path(opened.git_dir)
            opened.close()
        except NoSuchPathError as error:
            raise NotARepositoryError(f"{path} does not exist; check the location in the settings") from error
        except (InvalidGitRepositoryError, OSError, ValueError) as error:
            raise NotARepositoryError(
                f"{path} is not a git repository; give the folder that holds .git, or a bare repository"
            ) from error
        self.path = path

    def resolve(self, name: str) -> str | None:
        """The commit a branch, tag or id names, or None."""
        done = self._run(
            ["rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}"], check=False
        )
        return done.stdout.decode().strip() or None if done.returncode == 0 else None

    def tags(self) -> list[Ref]:
        """Every tag that leads to a commit."""
        text = self._run(
            [
                "for-each-ref",
                "--format=%(objecttype) %(*objecttype) %(objectname) %(*objectname)"
                " %(creatordate:unix) %(refname:strip=2)",
                "refs/tags",
            ]
        ).stdout.decode("utf-8", "replace")
        found = []
        for line in text.splitlines():
            kind, peeled_kind, own, peeled, seconds, name = _columns(line)
            commit = own if kind == "commit" else peeled if peeled_kind == "commit" else None
            if commit is not None:
                date = datetime.fromtimestamp(int(seconds), UTC) if seconds.lstrip("-").isdigit() else None
                found.append(Ref(name, commit, date))
        return found

    def is_ancestor(self, older: str, newer: str) -> bool:
        """Whether ``newer`` contains ``older``."""
        return self._run(["merge-base", "--is-ancestor", older, newer], check=False).returncode == 0

    def rev_list(self, arguments: list[str], *, stdin: Iterable[str] = ()) -> Generator[str, None, None]:
        """Lines of ``git rev-list``, streamed. ``stdin``: revisions, one a line (``--stdin`` is added)."""
        revisions = "".join(f"{entry}\n" for entry in stdin).encode()
        extra = ["--stdin"] if revisions else []
        # rev-list wants paths last, after "--"; --stdin goes before it.
        with self._stream(["rev-list", *extra, *arguments], revisions) as process:
            assert process.stdout is not None
            for line in process.stdout:
                yield line.decode("ascii", "replace").rstrip("\n")

    def blobs(self, names: Iterable[str], *, limit: int, start_bytes: int = 0) -> Iterator[Blob]:
        """Objects by name ("<commit>:m"), in order, through one ``cat-file --batch``.

        An object larger than ``limit`` bytes gives its first ``start_bytes`` only; a missing one None.
        """
        asked: list[str] = []
        with self._stream(["cat-file", "--batch", "--buffer"], _feed(names, asked)) as process:
            assert process.stdout is not None
            out = process.stdout
            position = 0
            while header := out.readline():
                name = asked[position]
                asked[position] = ""
                position += 1
                fields = header.split()
                if len(fields) < 3 or not fields[-1].isdigit() or fields[-2] == b"missing":
                    yield Blob(name, None, 0)
                    continue
                size = int(fields[-1])
                if size <= limit:
                    data = out.read(size)
                else:
                    data = out.read(min(size, start_bytes))
                    _discard(out.read, size - len(data))
                out.read(1)
                yield Blob(name, data, size)

    def diffs(self, commits: Iterable[str], paths: Iterable[str] = ()) -> Iterator[tuple[str, str]]:
        """(commit, its diff as text), in order; merges give no diff. One ``diff-tree --stdin``.

        ``paths``: only these files and folders; the whole diff without.
        """
        arguments = [
            "-c", "core.quotePath=true", "-c", "diff.noprefix=false", "-c", "diff.mnemonicPrefix=false",
            "diff-tree", "--stdin", "--always", "--root", "-r", "-p", "--no-ext-diff", "--no-textconv",
            "--no-color", "--no-renames", "--src-prefix=a/", "--dst-prefix=b/", "--diff-algorithm=myers",
            "--", *paths,
        ]  # fmt: skip
        with self._stream(arguments, _feed(commits, [])) as process:
            assert process.stdout is not None
            current: str | None = None
            lines: list[bytes] = []
            for line in process.stdout:
                # A bare id on a line of its own: a diff's own lines always begin otherwise.
                if len(line) == 41 and _is_id(line[:40]):
                    if current is not None:
                        yield current, b"".join(lines).decode("utf-8", "replace")
                    current, lines = line[:40].decode(), []
                else:
                    lines.append(line)
            if current is not None:
                yield current, b"".join(lines).decode("utf-8", "replace")

    def branches(self) -> list[Ref]:
        """Every branch with the commit at its head, and that commit's date."""
        text = self._run(
            ["for-each-ref", "--format=%(objectname) %(committerdate:unix) %(refname:strip=2)", "refs/heads"]
        ).stdout.decode("utf-8", "replace")
        rows = (line.split(" ", 2) for line in text.splitlines())
        return [Ref(name, own, datetime.fromtimestamp(int(seconds), UTC)) for own, seconds, name in rows]

    def entries(self, commit: str, paths: Iterable[str] = ()) -> list[Entry]:
        """The files and submodules of a commit below ``paths`` (all without), in git's order."""
        out = self._run(["ls-tree", "-r", "-z", "--full-tree", commit, "--", *paths]).stdout
        found = []
        for row in out.split(b"\0"):
            head, _, name = row.partition(b"\t")
            fields = head.split(b" ")
            if len(fields) == 3:
                found.append(
                    Entry(name.decode("utf-8", "surrogateescape"), fields[1].decode(), fields[2].decode())
                )
        return found

    def changed(self, older: str, newer: str) -> list[tuple[str, str]]:
        """(status letter, path) of every file that differs: A added, M changed, D removed."""
        out = self._run(["diff-tree", "-r", "-z", "--no-renames", "--name-status", older, newer]).stdout
        fields = out.decode("utf-8", "surrogateescape").split("\0")
        return [(status[:1], path) for status, path in zip(fields[::2], fields[1::2], strict=False)]

    def added_dates(self, head: str, paths: Iterable[str]) -> dict[str, datetime]:
        """When each file was last added in the history of ``head``: the committer's date."""
        found: dict[str, datetime] = {}
        wanted = list(paths)
        arguments = ["log", "--format=%x01%ct", "--name-only", "--diff-filter=A", "--no-renames", "-z", head]
        out = self._run([*arguments, "--", *wanted]).stdout if wanted else b""
        for block in out.split(b"\x01")[1:]:
            seconds, _, names = block.partition(b"\0")
            moment = datetime.fromtimestamp(int(seconds.split()[0]), UTC)
            for name in names.strip(b"\n\0").split(b"\0"):
                found.setdefault(name.decode("utf-8", "surrogateescape"), moment)
        return found

    def commit_dates(self, commits: Iterable[str]) -> dict[str, datetime]:
        """The committer's date of each commit."""
        wanted = list(commits)
        lines = self.rev_list(["--no-walk=unsorted", "--timestamp"], stdin=wanted) if wanted else ()
        rows = (line.split(" ") for line in lines)
        return {row[1]: datetime.fromtimestamp(int(row[0]), UTC) for row in rows if len(row) == 2}

    def _run(self, arguments: list[str], *, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        try:
            done = subprocess.run(
                self._command(arguments),
                capture_output=True,
                timeout=GIT_TIMEOUT,
                check=False,
                env={**os.environ, **_ENVIRONMENT},
            )
        except subprocess.TimeoutExpired as error:
            raise GitError(
                f"git {arguments[0]} in {self.path} gave no answer in {GIT_TIMEOUT:.0f} s"
            ) from error
        if check and done.returncode != 0:
            raise GitError(f"git {arguments[0]} failed in {self.path}: {_said(done.stderr)}")
        return done

    @contextmanager
    def _stream(
        self, arguments: list[str], feed: bytes | Generator[bytes, None, None]
    ) -> Iterator[subprocess.Popen[bytes]]:
        """A git process whose input is written by a thread, so that neither side waits for ever."""
        process = subprocess.Popen(
            self._command(arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=256 * 1024,
            env={**os.environ, **_ENVIRONMENT},
        )
        with suppress(OSError):  # more than the user may have: git waits for us more often, no more
            assert process.stdout is not None
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        errors: list[bytes] = []
        failure: list[BaseException] = []
        writer = threading.Thread(target=_write, args=(process, feed, failure), daemon=True)
        reader = threading.Thread(target=_drain, args=(process, errors), daemon=True)
        writer.start()
        reader.start()
        finished = False
        try:
            yield process
            finished = True
        finally:
            if not finished:
                process.kill()
            assert process.stdout is not None
            assert process.stderr is not None
            process.stdout.close()
            process.wait()
            writer.join()
            reader.join()
            process.stderr.close()
        if failure:
            raise failure[0]
        if process.returncode != 0:
            raise GitError(f"git {_verb(arguments)} failed in {self.path}: {_said(b''.join(errors))}")

    def _command(self, arguments: list[str]) -> list[str]:
        return ["git", "--no-replace-objects", *_LITTLE_MEMORY, f"--git-dir={self.git_dir}", *arguments]


class _Fetching:
    """Git's words about a transfer ("Receiving objects: 12 %") as steps of the project's progress."""

    STAGES = MappingProxyType(
        {
            git.RemoteProgress.COUNTING: "counting objects",
            git.RemoteProgress.COMPRESSING: "compressing objects",
            git.RemoteProgress.RECEIVING: "receiving objects",
            git.RemoteProgress.RESOLVING: "resolving deltas",
        }
    )

    def __init__(self, name: str, shown: Progress) -> None:
        self._name = name
        self._shown = shown
        self._done = 0

    def __call__(
        self, op_code: int, cur_count: str | float, max_count: str | float | None = None, message: str = ""
    ) -> None:
        """One line of git's; ``op_code`` is a stage, and whether it begins."""
        stage = self.STAGES.get(op_code & git.RemoteProgress.OP_MASK)
        if stage is None:
            return
        if op_code & git.RemoteProgress.BEGIN:
            self._done = 0
            self._shown.start(f"{self._name}: {stage}", int(float(max_count)) if max_count else None)
        count = int(float(cur_count))
        self._shown.advance(count - self._done)
        self._done = count


def open_or_clone(
    location: str,
    clones: Path,
    name: str,
    progress: Progress,
    *,
    blobless: bool = True,
    shown_as: str | None = None,
) -> Repository:
    """A local repository as it is; a URL as a bare clone below ``clones``, fetched up to date.

    ``blobless`` clones take commits and folders only; git brings the few needed files when asked.
    Raises SourceError (NotARepositoryError) with git's own words when it cannot be reached.
    """
    if not is_url(location):
        return Repository(Path(location).expanduser())
    target = clones / f"{safe_name(name)}.git"
    try:
        if (target / "HEAD").exists():
            progress.start(f"{shown_as or name}: fetching")
            with git.Repo(target) as repo:
                repo.git.fetch("--prune", "--tags", "--force", "origin", "+refs/heads/*:refs/heads/*")
        else:
            clones.mkdir(parents=True, exist_ok=True)
            part = target.with_suffix(".part")
            _remove(part)
            git.Repo.clone_from(
                location,
                part,
                progress=_Fetching(shown_as or name, progress),
                bare=True,
                env={"GIT_TERMINAL_PROMPT": "0"},
                multi_options=["--filter=blob:none"] if blobless else None,
            ).close()
            part.rename(target)
    except GitCommandError as error:
        raise NotARepositoryError(f"cannot fetch {location}: {_said(str(error.stderr).encode())}") from error
    return Repository(target)


def is_url(location: str) -> bool:
    """Whether a location is fetched over some protocol (https://..., git@host:path)."""
    return "://" in location or (":" in location.split("/")[0])


def safe_name(name: str) -> str:
    """A name of the settings as a file name."""
    return (
        "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name).strip(".")
        or "tree"
    )


def _columns(line: str) -> tuple[str, str, str, str, str, str]:
    """The six columns of `tags`; the empty ones (no peeled object) are empty strings."""
    kind, peeled_kind, own, peeled, seconds, name = line.split(" ", 5)
    return kind, peeled_kind, own, peeled, seconds, name


def _feed(names: Iterable[str], asked: list[str]) -> Generator[bytes, None, None]:
    try:
        for name in names:
            asked.append(name)
            yield name.encode("utf-8", "surrogateescape") + b"\n"
    finally:
        if isinstance(names, Generator):
            names.close()


def _write(
    process: subprocess.Popen[bytes], feed: bytes | Generator[bytes, None, None], failure: list[BaseException]
) -> None:
    assert process.stdin is not None
    try:
        if isinstance(feed, bytes):
            process.stdin.write(feed)
        else:
            for piece in feed:
                process.stdin.write(piece)
    except BrokenPipeError:
        pass  # git ended early: its exit status and words tell why
    except BaseException as error:  # noqa: BLE001 - handed over to the reading thread, which raises it
        failure.append(error)
        process.kill()
    finally:
        with suppress(BrokenPipeError):
            process.stdin.close()
        if not isinstance(feed, bytes):
            feed.close()  # a feed may itself be a running git


def _drain(process: subprocess.Popen[bytes], errors: list[bytes]) -> None:
    assert process.stderr is not None
    while piece := process.stderr.read(4096):
        if len(errors) < 16:
            errors.append(piece)


def _discard(read: Callable[[int], bytes], count: int) -> None:
    while count > 0:
        piece = read(min(count, 1 << 20))
        if not piece:
            return
        count -= len(piece)


def _is_id(text: bytes) -> bool:
    return all(byte in b"0123456789abcdef" for byte in text)


def _said(text: bytes) -> str:
    lines = [line.strip() for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
    return " / ".join(lines[-2:])[:400] or "it gave no reason"


def _verb(arguments: list[str]) -> str:
    return next((entry for entry in arguments if not entry.startswith("-") and "=" not in entry), "")


def _remove(path: Path) -> None:
    import shutil

    if path.exists():
        shutil.rmtree(path)
