"""Programs that use the NPU as people do, run on a machine, their answers turned into results.

``suite.run`` is the whole, ``InferenceSuite`` what the runner is given; the modules around it are the runners
(xrt-smi, xrt-runner, pyxrt, ONNX Runtime, FastFlowLM, Lemonade), each with ``detect`` and ``cases``, and the
pure parsers of what they print. Programs below ``programs/`` and ``on_machine`` run on the machine and need
Python's standard library only. This room decides no verdict: what a number means is for whoever compares two
runs.
"""

from harness.inference.bench import InferenceOptions, InferenceTimeouts, PyxrtKernel, Recipe
from harness.inference.suite import InferenceSuite, digest, run

__all__ = [
    "InferenceOptions",
    "InferenceSuite",
    "InferenceTimeouts",
    "PyxrtKernel",
    "Recipe",
    "digest",
    "run",
]
