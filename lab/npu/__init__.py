"""The virtual NPU: a model of AMD's AIE2 and AIE4 neural processors behind the vfio-user protocol.

QEMU maps the device into a guest whose kernel is real and unmodified, so the amdxdna driver is exercised
without hardware. The model knows the driver's side of the device (registers, mailboxes, firmware messages);
it computes nothing that an AI engine computes, except the test kernels of ``lab.npu.kernels``.

docs/virtual-npu.md says what it is, what it is not, and how its trace is read.
"""

MODEL_VERSION = "1.1"
"""Part of every result's environment: raised whenever an answer the driver can see changes."""
