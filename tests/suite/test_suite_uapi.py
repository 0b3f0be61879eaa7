"""The ctypes layout against sizes and offsets measured with gcc on the header of 7.3.4."""

from __future__ import annotations

import ctypes
import re

import pytest

from harness.suite import drm, uapi

# structure -> (bytes, "field@offset ..."); variable tails left out. Measured: facts of the uapi, gcc x86-64.
MEASURED = {
    "QosInfo": (24, "gops@0 fps@4 dma_bandwidth@8 latency@12 frame_exec_time@16 priority@20"),
    "CreateHwctx": (
        56,
        "ext@0 ext_flags@8 qos_p@16 umq_bo@24 log_buf_bo@28 max_opc@32 num_tiles@36 "
        "mem_size@40 umq_doorbell@44 handle@48 syncobj_handle@52",
    ),
    "DestroyHwctx": (8, "handle@0 pad@4"),
    "CuConfig": (8, "cu_bo@0 cu_func@4 pad@5"),
    "ConfigCu": (8, "num_cus@0 pad@2"),
    "ConfigHwctx": (24, "handle@0 param_type@4 param_val@8 param_val_size@16 pad@20"),
    "VaEntry": (16, "vaddr@0 len@8"),
    "VaTable": (8, "dmabuf_fd@0 num_entries@4"),
    "CreateBo": (32, "flags@0 vaddr@8 size@16 type@24 handle@28"),
    "GetBoInfo": (48, "ext@0 ext_flags@8 handle@16 pad@20 map_offset@24 vaddr@32 xdna_addr@40"),
    "SyncBo": (24, "handle@0 direction@4 offset@8 size@16"),
    "ExecCmd": (
        56,
        "ext@0 ext_flags@8 hwctx@16 type@20 cmd_handles@24 args@32 cmd_count@40 arg_count@44 seq@48",
    ),
    "WaitCmd": (16, "hwctx@0 timeout@4 seq@8"),
    "QueryAieStatus": (16, "buffer@0 buffer_size@8 cols_filled@12"),
    "QueryAieVersion": (8, "major@0 minor@4"),
    "TileMetadata": (
        16,
        "row_count@0 row_start@2 dma_channel_count@4 lock_count@6 event_reg_count@8 pad@10",
    ),
    "QueryAieMetadata": (64, "col_size@0 cols@4 rows@6 version@8 core@16 mem@32 shim@48"),
    "QueryClock": (24, "name@0 freq_mhz@16 pad@20"),
    "QueryClockMetadata": (48, "mp_npu_clock@0 h_clock@24"),
    "QuerySensor": (
        168,
        "label@0 input@64 max@68 average@72 highest@76 status@80 units@144 unitm@160 type@161 pad@162",
    ),
    "QueryHwctx": (
        64,
        "context_id@0 start_col@4 num_col@8 pad@12 pid@16 command_submissions@24 "
        "command_completions@32 migrations@40 preemptions@48 errors@56",
    ),
    "GetPowerMode": (8, "power_mode@0 pad@1"),
    "QueryFirmwareVersion": (16, "major@0 minor@4 patch@8 build@12"),
    "GetResourceInfo": (
        40,
        "npu_clk_max@0 npu_tops_max@8 npu_task_max@16 npu_tops_curr@24 npu_task_curr@32",
    ),
    "AttributeState": (8, "state@0 pad@1"),
    "TelemetryHeader": (16, "major@0 minor@4 type@8 map_num_elements@12"),
    "GetInfo": (16, "param@0 buffer_size@4 buffer@8"),
    "HwctxEntry": (
        144,
        "context_id@0 start_col@4 num_col@8 hwctx_id@12 pid@16 command_submissions@24 "
        "command_completions@32 migrations@40 preemptions@48 errors@56 priority@64 "
        "heap_usage@72 suspensions@80 state@88 pasid@92 gops@96 fps@100 dma_bandwidth@104 "
        "latency@108 frame_exec_time@112 txn_op_idx@116 ctx_pc@120 fatal_error_type@124 "
        "fatal_error_exception_type@128 fatal_error_exception_pc@132 "
        "fatal_error_app_module@136 pad@140",
    ),
    "AsyncError": (24, "err_code@0 ts_us@8 ex_err_code@16"),
    "BoUsage": (32, "pid@0 total_usage@8 internal_usage@16 heap_usage@24"),
    "GetArray": (24, "param@0 element_size@4 num_element@8 pad@12 buffer@16"),
    "SetState": (16, "param@0 buffer_size@4 buffer@8"),
    "SetPowerMode": (8, "power_mode@0 pad@1"),
}
REQUESTS = {
    "CREATE_HWCTX": 0xC0386440,
    "DESTROY_HWCTX": 0xC0086441,
    "CONFIG_HWCTX": 0xC0186442,
    "CREATE_BO": 0xC0206443,
    "GET_BO_INFO": 0xC0306444,
    "SYNC_BO": 0xC0186445,
    "EXEC_CMD": 0xC0386446,
    "GET_INFO": 0xC0106447,
    "SET_STATE": 0xC0106448,
    "GET_ARRAY": 0xC018644A,
    "WAIT_CMD": 0x40106449,
}


@pytest.mark.parametrize("name", sorted(MEASURED))
def test_layout(name: str) -> None:
    size, fields = MEASURED[name]
    structure = getattr(uapi, name)
    assert ctypes.sizeof(structure) == size
    ours = {field[0]: getattr(structure, field[0]).offset for field in structure._fields_}
    assert ours == {match[1]: int(match[2]) for match in re.finditer(r"(\w+)@(\d+)", fields)}


def test_every_structure_is_measured() -> None:
    ours = {
        name
        for name, value in vars(uapi).items()
        if isinstance(value, type) and issubclass(value, ctypes.Structure)
    }
    assert ours == set(MEASURED)


@pytest.mark.parametrize("name", sorted(REQUESTS))
def test_request_number(name: str) -> None:
    assert getattr(uapi, name) == REQUESTS[name]


def test_requests_of_the_drm_core() -> None:
    # include/uapi/drm/drm.h: DRM_IOWR(0x00, 64 bytes), DRM_IOW(0x09, 8), DRM_IOWR(0x2d and 0x2e, 12) ...
    assert drm.VERSION == 0xC0406400
    assert drm.GEM_CLOSE == 0x40086409
    assert drm.PRIME_HANDLE_TO_FD == 0xC00C642D
    assert drm.PRIME_FD_TO_HANDLE == 0xC00C642E
    assert drm.SYNCOBJ_DESTROY == 0xC00864C0
    assert drm.SYNCOBJ_TIMELINE_WAIT == 0xC03064CA
    assert drm.SYNCOBJ_QUERY == 0xC01864CB
