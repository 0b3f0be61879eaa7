"""What the cases of every runner share: the machine's commands, the driver's word, options, named timeouts.

A runner module has ``detect(bench)`` (what is installed, or the exact missing piece) and ``cases(bench)``
(its tests, in order, always the same ids: a missing piece skips, it does not remove).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from harness.inference.commands import Commands, Look
from harness.inference.driver_state import DriverState, parse_state
from harness.inference.metrics import Installed, Missing, Report

SUITE = "inference"


@dataclass(frozen=True)
class InferenceTimeouts:
    """Every wait of the suite by name, in seconds of the machine's monotonic clock.

    They bound programs that hang, not slow ones: an emulated machine on a busy host needs a minute where a
    laptop needs a second.
    """

    detect: float = 120.0  # one program asked for its version
    driver: float = 120.0  # the driver's state by sysfs and ioctls
    examine: float = 180.0
    configure: float = 180.0
    validate: float = 300.0  # one test of xrt-smi validate
    recipe: float = 300.0  # one recipe of xrt-runner
    pyxrt: float = 300.0
    onnx: float = 1200.0  # the provider compiles a model for minutes when its cache is cold
    flm_validate: float = 60.0
    flm_bench: float = 3600.0
    lemonade: float = 300.0  # one answer; the first loads the model


@dataclass(frozen=True)
class Recipe:
    """One recipe for xrt-runner: paths on the machine; ``folder`` has the artifacts it names."""

    recipe: str
    profile: str
    folder: str = "."


@dataclass(frozen=True)
class PyxrtKernel:
    """One compiled kernel for pyxrt with the convention of mlir-aie: (opcode 3, instructions, their number of
    words, inputs ..., output). Paths on the machine; ``expected`` is what the output must be, byte for byte.
    """

    xclbin: str
    kernel: str
    instructions: str
    inputs: tuple[str, ...]
    expected: str


@dataclass(frozen=True)
class InferenceOptions:
    """What a person may name; everything is a path or a name on the machine. Nothing is ever downloaded."""

    recipes: tuple[Recipe, ...] = ()
    kernel: PyxrtKernel | None = None
    onnx_model: str | None = None
    onnx_config: str | None = None
    onnx_python: str | None = None  # the Python that has AMD's onnxruntime
    flm_model: str | None = None
    lemonade_model: str | None = None
    lemonade_ports: tuple[int, ...] = (13305, 8000)  # 9.4 and later; before
    node: str | None = None  # device node, when there are several NPUs


class Bench:
    """One machine under the suite. ``state`` is the driver's word at the start."""

    def __init__(self, commands: Commands, options: InferenceOptions, timeouts: InferenceTimeouts) -> None:
        self.commands = commands
        self.options = options
        self.timeouts = timeouts
        self.state = DriverState(missing=("the driver was not asked yet",))

    @property
    def look_again(self) -> Look:
        """A look at the driver, to be put between programs."""
        return Look(self.options.node, self.timeouts.driver)

    def look(self) -> DriverState:
        """Ask the driver again."""
        return parse_state(self.commands.run_one(self.look_again))

    def file(self, name: str) -> str:
        """A path for a program's output on the machine."""
        return f"{self.commands.root}/{name}"

    @property
    def watched_node(self) -> str | None:
        """The node to watch while a program should use the NPU."""
        return None if self.state.obstacle else self.state.node


@dataclass(frozen=True)
class Case:
    """One test. ``run`` may raise LabError or HarnessError; it never waits without a timeout."""

    runner: str  # "xrt-smi-examine"
    name: str  # "platform"
    title: str
    run: Callable[[], Report] = field(repr=False)

    @property
    def id(self) -> str:
        """The id under which the test is known for ever."""
        return f"{SUITE}/{self.runner}::{self.name}"


Detected = Installed | Missing
