"""The virtual NPU's test kernels as a binary that AMD's run time loads (xclbin), so that real user space can
run them.

The binary says: one kernel XDNAWATCH of seven arguments, laid out as lab.npu.kernels reads them (magic,
version and operation, length, value; then up to three buffers), in a design that fits any column. The design
itself is a dummy: the model does the work. It is made by Debian's own xclbinutil, run through the loader of
unpacked trees, without root.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lab.machine import LabError

KERNEL = "XDNAWATCH"
PLACE = "usr/share/xdnawatch/test_kernels.xclbin"
TIMEOUT = 60.0  # seconds for xclbinutil
LOADER = "usr/lib64/ld-linux-x86-64.so.2"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
DESIGN_SIZE = 4096  # bytes; the driver copies it into the heap, nobody reads it
DESIGN_ID = "0x901"

_MEMORY = {
    "mem_topology": {
        "m_count": "2",
        "m_mem_data": [
            {
                "m_type": "MEM_DRAM",
                "m_used": "1",
                "m_sizeKB": size,
                "m_tag": tag,
                "m_base_address": "0x4000000",
            }
            for tag, size in (("HOST", "0x10000"), ("SRAM", "0xc000"))
        ],
    }
}
#: Scalars of four bytes, then buffers of eight: the words of lab.npu.kernels.DESCRIPTOR and what follows it.
_ARGUMENTS = [
    *(
        {"name": name, "address-qualifier": "SCALAR", "type": "uint32_t", "offset": f"{4 * index:#x}"}
        for index, name in enumerate(("magic", "operation", "length", "value"))
    ),
    *(
        {
            "name": name,
            "memory-connection": "HOST",
            "address-qualifier": "GLOBAL",
            "type": "void*",
            "offset": f"{16 + 8 * index:#x}",
        }
        for index, name in enumerate(("first", "second", "third"))
    ),
]
_KERNELS = {
    "ps-kernels": {
        "kernels": [
            {
                "name": KERNEL,
                "type": "dpu",
                "extended-data": {"subtype": "DPU", "functional": "0", "dpu_kernel_id": DESIGN_ID},
                "arguments": _ARGUMENTS,
                "instances": [{"name": "UNIT"}],
            }
        ]
    }
}


def _partition(design: Path) -> dict[str, object]:
    groups = [
        {
            "name": "DPU",
            "type": "PRIMARY",
            "pdi_id": "0x01",
            "dpu_kernel_ids": [DESIGN_ID],
            "pre_cdo_groups": ["0xC1"],
        }
    ]
    return {
        "aie_partition": {
            "name": "QoS",
            "operations_per_cycle": "2048",
            "inference_fingerprint": "1",
            "pre_post_fingerprint": "1",
            "partition": {"column_width": 1, "start_columns": [0, 1, 2, 3]},
            "PDIs": [
                {
                    "uuid": "00000000-0000-0000-0000-0000584e4457",
                    "file_name": str(design),
                    "cdo_groups": groups,
                }
            ],
        }
    }


def build(trees: Sequence[Path]) -> bytes:
    """The binary. ``trees`` are unpacked roots; the last has the loader, the first has xclbinutil.

    LabError when xclbinutil refuses.
    """
    with tempfile.TemporaryDirectory(prefix="xdnw-design-") as work:
        folder = Path(work)
        design = folder / "design.pdi"
        design.write_bytes(b"a design of the virtual NPU".ljust(DESIGN_SIZE, b"\0"))
        for name, content in (("memory", _MEMORY), ("kernels", _KERNELS), ("partition", _partition(design))):
            (folder / f"{name}.json").write_text(json.dumps(content))
        target = folder / "out.xclbin"
        result = subprocess.run(
            [
                str(trees[-1] / LOADER),
                *("--library-path", ":".join(str(tree / LIBRARIES) for tree in trees)),
                str(trees[0] / "usr/bin/xclbinutil"),
                *("--add-replace-section", f"MEM_TOPOLOGY:JSON:{folder / 'memory.json'}"),
                *("--add-kernel", str(folder / "kernels.json")),
                *("--add-replace-section", f"AIE_PARTITION:JSON:{folder / 'partition.json'}"),
                *("--force", "--output", str(target)),
            ],
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
        if result.returncode != 0 or not target.is_file():
            said = (result.stdout + result.stderr).decode("utf-8", "replace").strip()[-400:]
            raise LabError(f"xclbinutil could not make the test kernels' binary: {said}")
        return target.read_bytes()
