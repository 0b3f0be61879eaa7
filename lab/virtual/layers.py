"""The optional layers that a guest can have, by name. What is made of one: lab.virtual.extras."""

from __future__ import annotations

from dataclasses import dataclass

from lab.machine import LabError


@dataclass(frozen=True)
class Layer:
    """Packages to lay over the base: from which suites (the preferred first), what to leave out.

    ``exclude`` names packages whose work the base does; ``trimmed`` globs relative to the root.
    """

    name: str
    suites: tuple[str, ...]
    roots: tuple[str, ...]
    exclude: tuple[str, ...] = ()
    trimmed: tuple[str, ...] = ()
    test_kernels: bool = False  # add the virtual NPU's test kernels as XRT loads them


#: AMD's run time for the NPU as Debian ships it: the driver's shim, xrt-smi, xrt-runner, pyxrt. The base has
#: the Python that python3-xrt wants; trixie's own python3-xrt is an unrelated X-ray package, so backports
#: come first.
XRT = Layer(
    "xrt",
    ("trixie-backports", "trixie"),
    ("libxrt-npu2", "libxrt-utils", "libxrt-utils-npu", "python3-xrt"),
    exclude=("python3", "gcc-14-base", "openssl-provider-legacy"),
    trimmed=(
        "packages.json",
        "usr/share/doc",
        "usr/share/man",
        "usr/share/lintian",
        "usr/share/gdb",
        "usr/share/gcc",
        "usr/share/bash-completion",
        "etc/OpenCL",
        # Profilers, OpenCL, HIP and tools of FPGA cards: nothing that runs on an NPU loads them.
        "usr/lib/x86_64-linux-gnu/xrt/module",
        "usr/lib/x86_64-linux-gnu/libxilinxopencl*",
        "usr/lib/x86_64-linux-gnu/libxrt_hip*",
        "usr/bin/xclbinutil",
        "usr/bin/xbtop",
        "usr/bin/xrt-capture",
        "usr/bin/xrt-replay",
    ),
    test_kernels=True,
)
LAYERS = {layer.name: layer for layer in (XRT,)}


def layer(name: str) -> Layer:
    """The layer of this name; LabError names those there are."""
    if name not in LAYERS:
        raise LabError(f"no guest layer {name!r}; there are {', '.join(sorted(LAYERS))}")
    return LAYERS[name]
