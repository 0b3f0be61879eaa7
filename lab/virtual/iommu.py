"""Which IOMMU the virtual machine gets, by kernel release.

The driver opens a context either with shared virtual addressing (SVA, PASID) or, from 7.1 on, with its
parameter force_iova. QEMU's intel-iommu satisfies intel_svm_check of kernels up to 7.0; from 7.1 on that
function also demands ECAP.SMPWC (drivers/iommu/intel/iommu.c), which QEMU 11.1 never sets, while force_iova
exists. Measured on 6.18.15 to 7.3.4. Without caching-mode QEMU aborts when translated mappings of a
vfio-user device are to be shadowed.
"""

from __future__ import annotations

from dataclasses import dataclass

FIRST_WITH_FORCE_IOVA = (7, 1)


@dataclass(frozen=True)
class IommuMode:
    """``device``: QEMU's -device text; ``cpu``: what is added to -cpu; ``command_line``: kernel
    parameters.
    """

    name: str  # "sva" or "force_iova"
    device: str
    cpu: str
    command_line: tuple[str, ...]


SVA = IommuMode(
    name="sva",
    device="intel-iommu,scalable-mode=on,fsts=on,svm=on,pasid-bits=20,device-iotlb=on",
    cpu=",-la57",  # intel_svm_check refuses five-level CPUs whose IOMMU lacks FL5LP
    command_line=("intel_iommu=on,sm_on", "iommu=pt"),
)
FORCE_IOVA = IommuMode(
    name="force_iova",
    device="intel-iommu,caching-mode=on",
    cpu="",
    command_line=("intel_iommu=on", "amdxdna.force_iova=1"),
)


def iommu_mode(release: tuple[int, int]) -> IommuMode:
    """The mode for a kernel's (major, minor)."""
    return FORCE_IOVA if release >= FIRST_WITH_FORCE_IOVA else SVA
