"""Programs on the machine, run through its shell: bounded in time and output, one round trip for several.

``on_machine`` does the work there. Nothing that comes back is trusted: sizes, types and encodings are
checked, and an answer that is none raises InferenceError.
"""

from __future__ import annotations

import base64
import binascii
import importlib.resources
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.errors import HarnessError
from harness.inference.printed import json_of, object_of, tail_of, word_of
from harness.suite import contract
from harness.untrusted import clean
from lab.machine import Shell

LIMIT = 1 << 20  # bytes of one output or file that are kept
OVERHEAD = 30.0  # seconds beyond the programs' own time for Python to start and the answer to travel
#: The ioctl suite's modules that the machine needs to look at the driver.
LOOKING = ("__init__", "device", "drm", "uapi", "packets", "guard", "gauge")
OURS = "harness/inference"  # below the folder on the machine, as here
PROGRAMS = f"{OURS}/programs"


class InferenceError(HarnessError):
    """The machine's answer about a program is none."""


@dataclass(frozen=True)
class Command:
    """One program to run. ``programs``: names for PATH or paths, the first that is there is run.

    ``read`` files are brought back, ``remove`` files are deleted before; ``watch`` is the device node whose
    contexts are followed meanwhile.
    """

    programs: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    timeout: float = 30.0  # seconds
    stdin: str = ""
    read: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    folder: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    watch: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The job as ``on_machine`` takes it."""
        return {
            "programs": list(self.programs),
            "arguments": list(self.arguments),
            "timeout": self.timeout,
            "stdin": self.stdin,
            "read": list(self.read),
            "remove": list(self.remove),
            "folder": self.folder,
            "environment": dict(self.environment),
            "watch": self.watch,
        }


@dataclass(frozen=True)
class Look:
    """A look at the driver's state between programs; see ``harness.inference.driver_state``."""

    node: str | None = None
    timeout: float = 30.0  # seconds

    def as_json(self) -> dict[str, Any]:
        """The job as ``on_machine`` takes it."""
        return {"look": {"node": self.node}}


@dataclass(frozen=True)
class Watched:
    """What the driver counted while a program ran; ``problem`` says why it could not be seen."""

    contexts: int
    submissions: int
    completions: int
    problem: str | None

    def as_json(self) -> dict[str, Any]:
        """For a result row."""
        return {
            "contexts": self.contexts,
            "submissions": self.submissions,
            "completions": self.completions,
            **({"problem": self.problem} if self.problem else {}),
        }


@dataclass(frozen=True)
class Ran:
    """What became of a program. ``program`` None: none of its names is there. ``seconds`` of the machine."""

    program: str | None
    status: int | None = None  # negative: ended by that signal
    timed_out: bool = False
    flooded: bool = False  # ended because it wrote without end
    seconds: float = 0.0
    stdout: bytes = b""
    stderr: bytes = b""
    files: Mapping[str, bytes] = field(default_factory=dict)
    watched: Watched | None = None
    state: Mapping[str, Any] = field(default_factory=dict)  # the answer to a Look
    problem: str = ""

    @property
    def ok(self) -> bool:
        """It ended by itself with status 0."""
        return self.status == 0 and not self.timed_out and not self.flooded

    @property
    def told(self) -> str:
        """How it ended, in one line."""
        if self.program is None:
            return "the program is not there"
        if self.problem:
            return f"could not be started: {self.problem}"
        if self.timed_out:
            return f"did not end within {self.seconds:.0f} s"
        if self.flooded:
            return "wrote without end and was stopped"
        said = tail_of(self.stderr) or tail_of(self.stdout)
        if self.status is not None and self.status < 0:
            return f"died of signal {-self.status}{': ' + said if said else ''}"
        return f"ended with status {self.status}{': ' + said if said else ''}"


class Commands:
    """The edge to one machine. ``root`` is a folder there with the modules that look at the driver."""

    def __init__(self, shell: Shell, root: str, python: str = "python3") -> None:
        self._shell = shell
        self.root = root
        self.python = python

    def install(self) -> None:
        """Put the programs there. Raises LabError."""
        looking = {f"harness/suite/{name}.py" for name in LOOKING} | {"harness/__init__.py"}
        files = {name: data for name, data in contract.files().items() if name in looking}
        package = importlib.resources.files("harness.inference")
        for file in (package.joinpath("on_machine.py"), *package.joinpath("programs").iterdir()):
            if file.name.endswith(".py"):
                folder = OURS if file.name == "on_machine.py" else PROGRAMS
                files[f"{folder}/{file.name}"] = file.read_bytes()
        self._shell.put({**files, f"{OURS}/__init__.py": b""}, self.root)

    def remove(self) -> None:
        """Take everything away again."""
        self._shell.run(["rm", "-rf", "--", self.root], timeout=OVERHEAD)

    def run(self, *commands: Command | Look) -> tuple[Ran, ...]:
        """Run programs one after the other.

        Raises InferenceError when the machine's Python does not answer as it should, ShellLostError and
        ShellTimeoutError when the machine does not answer at all.
        """
        request = json.dumps({"limit": LIMIT, "jobs": [command.as_json() for command in commands]})
        # By standard input: an ssh server may refuse a command line of more than a few thousand bytes.
        done = self._shell.run(
            [
                *("env", f"PYTHONPATH={self.root}", "PYTHONDONTWRITEBYTECODE=1"),
                *(self.python, f"{self.root}/{OURS}/on_machine.py"),
            ],
            timeout=sum(command.timeout for command in commands) + OVERHEAD,
            stdin=request.encode("utf-8"),
        )
        answers = _answers(done.stdout)
        if done.status != 0 or answers is None or len(answers) != len(commands):
            said = clean(done.stderr.decode("utf-8", "replace").strip()[-400:], 400) or "no answer"
            raise InferenceError(
                f"{self.python} on the machine ended with status {done.status}: {said}; "
                f"run `{self.python} -c 'print(1)'` there and mend what it says"
            )
        return tuple(answer_of(answer) for answer in answers)

    def run_one(self, command: Command | Look) -> Ran:
        """Run one program."""
        return self.run(command)[0]

    def python_program(self, name: str, request: Mapping[str, Any], **how: Any) -> Command:
        """One of this package's programs for the machine, to be run by its Python with a JSON argument."""
        return Command(
            (how.pop("python", None) or self.python,),
            (f"{self.root}/{PROGRAMS}/{name}", json.dumps(dict(request))),
            environment={"PYTHONPATH": self.root, **how.pop("environment", {})},
            **how,
        )


def _answers(data: bytes) -> list[Any] | None:
    """The answers of the last line: what a login script printed before does not matter."""
    lines = data.strip().rsplit(b"\n", 1)
    if not lines[-1].startswith(b"{"):
        return None
    try:
        document = json.loads(lines[-1])
    except (ValueError, RecursionError):
        return None
    answers = object_of(document).get("answers")
    return answers if isinstance(answers, list) else None


def answer_of(answer: Any) -> Ran:
    """One answer of the machine as Ran; what has the wrong type is as if it were not there."""
    fields = object_of(answer)
    status = fields.get("status")
    seconds = fields.get("seconds")
    watch = fields.get("watch")
    return Ran(
        word_of(fields.get("program"), 500) or None,
        status if isinstance(status, int) and not isinstance(status, bool) else None,
        fields.get("timed_out") is True,
        fields.get("flooded") is True,
        float(seconds) if isinstance(seconds, int | float) and 0 <= seconds < 1e6 else 0.0,
        _decoded(fields.get("stdout")),
        _decoded(fields.get("stderr")),
        {str(name): _decoded(data) for name, data in object_of(fields.get("files")).items()},
        _watched(watch) if isinstance(watch, dict) else None,
        object_of(fields.get("state")),
        word_of(fields.get("problem")),
    )


def _decoded(value: Any) -> bytes:
    if not isinstance(value, str) or len(value) > 2 * LIMIT:
        return b""
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return b""


def counted(answer: Mapping[str, Any], watched: Watched | None) -> Watched | None:
    """The driver's count: what a program read of its own contexts, else what was seen from outside."""
    own = answer.get("driver")
    return _watched(own) if isinstance(own, dict) else watched


def _watched(value: dict[str, Any]) -> Watched:
    numbers = []
    for name in ("contexts", "submissions", "completions"):
        count = value.get(name)
        numbers.append(count if isinstance(count, int) and 0 <= count < 1 << 53 else 0)
    return Watched(numbers[0], numbers[1], numbers[2], word_of(value.get("problem")) or None)


def program_answer(ran: Ran) -> dict[str, Any]:
    """The JSON object that one of our programs printed last; {} when it did not."""
    return object_of(json_of(ran.stdout.strip().rsplit(b"\n", 1)[-1]))
