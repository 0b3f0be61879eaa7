"""The amdxdna user interface as ctypes: ioctl numbers, structures, enumerations.

Source: include/uapi/drm/amdxdna_accel.h of 7.3.4 (identical in 7.2; numbers and sizes never changed since
6.14). Fields keep the kernel's names. Nothing here opens a device; the layout is checked against measured
offsets by a test on the host. The calls of the DRM core are in ``harness.suite.drm``.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum

U8, U16, U32, U64 = ctypes.c_uint8, ctypes.c_uint16, ctypes.c_uint32, ctypes.c_uint64
S8, S32, S64 = ctypes.c_int8, ctypes.c_int32, ctypes.c_int64

DRIVER_NAME = "amdxdna_accel_driver"
PAGE = 4096
INVALID_ADDR = 0xFFFFFFFFFFFFFFFF
INVALID_HANDLE = 0  # of a buffer, a context or a fence
HEAP_BASE = 0x4000000  # device address of the first heap byte on AIE2
HEAP_CHUNK = 64 << 20  # a heap is a multiple of this
MAX_ARGUMENTS = 4095  # buffer handles of one EXEC_CMD
MAX_ELEMENT_SIZE = 4096  # bytes, GET_ARRAY HW_CONTEXT_ALL
MAX_ELEMENTS = 1024


class Ioctl(IntEnum):
    """Driver numbers, added to the DRM command base 0x40."""

    CREATE_HWCTX = 0
    DESTROY_HWCTX = 1
    CONFIG_HWCTX = 2
    CREATE_BO = 3
    GET_BO_INFO = 4
    SYNC_BO = 5
    EXEC_CMD = 6
    GET_INFO = 7
    SET_STATE = 8
    WAIT_CMD = 9
    GET_ARRAY = 10


class DeviceType(IntEnum):
    UNKNOWN = -1
    KMQ = 0
    UMQ = 1
    PF = 2


class Config(IntEnum):
    """CONFIG_HWCTX parameters."""

    CU = 0
    ASSIGN_DBG_BUF = 1
    REMOVE_DBG_BUF = 2


class Bo(IntEnum):
    INVALID = 0
    SHARE = 1  # SHMEM until 7.0
    DEV_HEAP = 2
    DEV = 3
    CMD = 4


class Submit(IntEnum):
    """EXEC_CMD types; only EXEC_BUF was ever accepted."""

    EXEC_BUF = 0
    DEPENDENCY = 1
    SIGNAL = 2


class SensorType(IntEnum):
    POWER = 0
    COLUMN_UTILIZATION = 1


class PowerMode(IntEnum):
    DEFAULT = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    TURBO = 4


class Info(IntEnum):
    """GET_INFO parameters."""

    AIE_STATUS = 0
    AIE_METADATA = 1
    AIE_VERSION = 2
    CLOCK_METADATA = 3
    SENSORS = 4
    HW_CONTEXTS = 5
    FIRMWARE_VERSION = 8
    POWER_MODE = 9
    TELEMETRY = 10
    FORCE_PREEMPT = 11
    RESOURCE_INFO = 12
    FRAME_BOUNDARY_PREEMPT = 13


class Array(IntEnum):
    """GET_ARRAY parameters."""

    HW_CONTEXT_ALL = 0
    LAST_ASYNC_ERR = 2
    BO_USAGE = 6


class State(IntEnum):
    """SET_STATE parameters."""

    POWER_MODE = 0
    WRITE_AIE_MEM = 1
    WRITE_AIE_REG = 2
    FORCE_PREEMPT = 3
    FRAME_BOUNDARY_PREEMPT = 4


class Direction(IntEnum):
    TO_DEVICE = 0
    FROM_DEVICE = 1


class Priority(IntEnum):
    """QoS priorities of a context."""

    REALTIME = 0x100
    HIGH = 0x180
    NORMAL = 0x200
    LOW = 0x280


class Command(IntEnum):
    """State of a command, written into its header by the driver (ert_cmd_state)."""

    NEW = 1
    QUEUED = 2
    RUNNING = 3
    COMPLETED = 4
    ERROR = 5
    ABORT = 6
    SUBMITTED = 7
    TIMEOUT = 8
    NORESPONSE = 9


class Opcode(IntEnum):
    """What a command asks for (ERT opcodes that the driver knows)."""

    START_CU = 0
    CHAIN = 19
    START_NPU = 20
    START_NPU_PREEMPT = 21
    START_NPU_PREEMPT_ELF = 22


class QosInfo(ctypes.Structure):
    _fields_ = tuple(
        (name, U32) for name in ("gops", "fps", "dma_bandwidth", "latency", "frame_exec_time", "priority")
    )


class CreateHwctx(ctypes.Structure):
    _fields_ = (
        ("ext", U64),
        ("ext_flags", U64),
        ("qos_p", U64),
        ("umq_bo", U32),
        ("log_buf_bo", U32),
        ("max_opc", U32),
        ("num_tiles", U32),
        ("mem_size", U32),
        ("umq_doorbell", U32),
        ("handle", U32),
        ("syncobj_handle", U32),
    )


class DestroyHwctx(ctypes.Structure):
    _fields_ = (("handle", U32), ("pad", U32))


class CuConfig(ctypes.Structure):
    _fields_ = (("cu_bo", U32), ("cu_func", U8), ("pad", U8 * 3))


class ConfigCu(ctypes.Structure):
    """Followed in memory by ``num_cus`` CuConfig."""

    _fields_ = (("num_cus", U16), ("pad", U16 * 3))


class ConfigHwctx(ctypes.Structure):
    _fields_ = (
        ("handle", U32),
        ("param_type", U32),
        ("param_val", U64),
        ("param_val_size", U32),
        ("pad", U32),
    )


class VaEntry(ctypes.Structure):
    _fields_ = (("vaddr", U64), ("len", U64))


class VaTable(ctypes.Structure):
    """Followed in memory by ``num_entries`` VaEntry; with none of them ``dmabuf_fd`` counts."""

    _fields_ = (("dmabuf_fd", S32), ("num_entries", U32))


class CreateBo(ctypes.Structure):
    _fields_ = (("flags", U64), ("vaddr", U64), ("size", U64), ("type", U32), ("handle", U32))


class GetBoInfo(ctypes.Structure):
    _fields_ = (
        ("ext", U64),
        ("ext_flags", U64),
        ("handle", U32),
        ("pad", U32),
        ("map_offset", U64),
        ("vaddr", U64),
        ("xdna_addr", U64),
    )


class SyncBo(ctypes.Structure):
    _fields_ = (("handle", U32), ("direction", U32), ("offset", U64), ("size", U64))


class ExecCmd(ctypes.Structure):
    _fields_ = (
        ("ext", U64),
        ("ext_flags", U64),
        ("hwctx", U32),
        ("type", U32),
        ("cmd_handles", U64),
        ("args", U64),
        ("cmd_count", U32),
        ("arg_count", U32),
        ("seq", U64),
    )


class WaitCmd(ctypes.Structure):
    _fields_ = (("hwctx", U32), ("timeout", U32), ("seq", U64))


class QueryAieStatus(ctypes.Structure):
    _fields_ = (("buffer", U64), ("buffer_size", U32), ("cols_filled", U32))


class QueryAieVersion(ctypes.Structure):
    _fields_ = (("major", U32), ("minor", U32))


class TileMetadata(ctypes.Structure):
    _fields_ = (
        ("row_count", U16),
        ("row_start", U16),
        ("dma_channel_count", U16),
        ("lock_count", U16),
        ("event_reg_count", U16),
        ("pad", U16 * 3),
    )


class QueryAieMetadata(ctypes.Structure):
    _fields_ = (
        ("col_size", U32),
        ("cols", U16),
        ("rows", U16),
        ("version", QueryAieVersion),
        ("core", TileMetadata),
        ("mem", TileMetadata),
        ("shim", TileMetadata),
    )


class QueryClock(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char * 16), ("freq_mhz", U32), ("pad", U32))


class QueryClockMetadata(ctypes.Structure):
    _fields_ = (("mp_npu_clock", QueryClock), ("h_clock", QueryClock))


class QuerySensor(ctypes.Structure):
    _fields_ = (
        ("label", ctypes.c_char * 64),
        ("input", U32),
        ("max", U32),
        ("average", U32),
        ("highest", U32),
        ("status", ctypes.c_char * 64),
        ("units", ctypes.c_char * 16),
        ("unitm", S8),
        ("type", U8),
        ("pad", U8 * 6),
    )


class QueryHwctx(ctypes.Structure):
    _fields_ = (
        ("context_id", U32),
        ("start_col", U32),
        ("num_col", U32),
        ("pad", U32),
        ("pid", S64),
        ("command_submissions", U64),
        ("command_completions", U64),
        ("migrations", U64),
        ("preemptions", U64),
        ("errors", U64),
    )


class GetPowerMode(ctypes.Structure):
    _fields_ = (("power_mode", U8), ("pad", U8 * 7))


class QueryFirmwareVersion(ctypes.Structure):
    _fields_ = (("major", U32), ("minor", U32), ("patch", U32), ("build", U32))


class GetResourceInfo(ctypes.Structure):
    _fields_ = tuple(
        (name, U64)
        for name in ("npu_clk_max", "npu_tops_max", "npu_task_max", "npu_tops_curr", "npu_task_curr")
    )


class AttributeState(ctypes.Structure):
    _fields_ = (("state", U8), ("pad", U8 * 7))


class TelemetryHeader(ctypes.Structure):
    """Followed in memory by ``map_num_elements`` words, then by the firmware's data."""

    _fields_ = (("major", U32), ("minor", U32), ("type", U32), ("map_num_elements", U32))


class GetInfo(ctypes.Structure):
    _fields_ = (("param", U32), ("buffer_size", U32), ("buffer", U64))


class HwctxEntry(ctypes.Structure):
    _fields_ = (
        ("context_id", U32),
        ("start_col", U32),
        ("num_col", U32),
        ("hwctx_id", U32),
        ("pid", S64),
        ("command_submissions", U64),
        ("command_completions", U64),
        ("migrations", U64),
        ("preemptions", U64),
        ("errors", U64),
        ("priority", U64),
        ("heap_usage", U64),
        ("suspensions", U64),
        ("state", U32),
        ("pasid", U32),
        ("gops", U32),
        ("fps", U32),
        ("dma_bandwidth", U32),
        ("latency", U32),
        ("frame_exec_time", U32),
        ("txn_op_idx", U32),
        ("ctx_pc", U32),
        ("fatal_error_type", U32),
        ("fatal_error_exception_type", U32),
        ("fatal_error_exception_pc", U32),
        ("fatal_error_app_module", U32),
        ("pad", U32),
    )


class AsyncError(ctypes.Structure):
    _fields_ = (("err_code", U64), ("ts_us", U64), ("ex_err_code", U64))


class BoUsage(ctypes.Structure):
    _fields_ = (("pid", S64), ("total_usage", U64), ("internal_usage", U64), ("heap_usage", U64))


class GetArray(ctypes.Structure):
    _fields_ = (
        ("param", U32),
        ("element_size", U32),
        ("num_element", U32),
        ("pad", U32),
        ("buffer", U64),
    )


class SetState(ctypes.Structure):
    _fields_ = (("param", U32), ("buffer_size", U32), ("buffer", U64))


class SetPowerMode(ctypes.Structure):
    _fields_ = (("power_mode", U8), ("pad", U8 * 7))


WRITE, READ_WRITE = 1, 3  # direction bits of a request
_TYPE = ord("d")
_COMMAND_BASE, _COMMAND_END = 0x40, 0xA0


def request(direction: int, number: int, structure: type[ctypes.Structure]) -> int:
    """The number that ioctl(2) takes (asm-generic/ioctl.h): direction, size, type, number."""
    return direction << 30 | ctypes.sizeof(structure) << 16 | _TYPE << 8 | number


def is_driver(number: int) -> bool:
    """Whether a request is one of the driver's own, not one of the DRM core's (drm.h, DRM_COMMAND_BASE)."""
    return _COMMAND_BASE <= number & 0xFF < _COMMAND_END


def _driver(number: Ioctl, structure: type[ctypes.Structure], direction: int = READ_WRITE) -> int:
    return request(direction, _COMMAND_BASE + number, structure)


CREATE_HWCTX = _driver(Ioctl.CREATE_HWCTX, CreateHwctx)
DESTROY_HWCTX = _driver(Ioctl.DESTROY_HWCTX, DestroyHwctx)
CONFIG_HWCTX = _driver(Ioctl.CONFIG_HWCTX, ConfigHwctx)
CREATE_BO = _driver(Ioctl.CREATE_BO, CreateBo)
GET_BO_INFO = _driver(Ioctl.GET_BO_INFO, GetBoInfo)
SYNC_BO = _driver(Ioctl.SYNC_BO, SyncBo)
EXEC_CMD = _driver(Ioctl.EXEC_CMD, ExecCmd)
GET_INFO = _driver(Ioctl.GET_INFO, GetInfo)
SET_STATE = _driver(Ioctl.SET_STATE, SetState)
WAIT_CMD = _driver(Ioctl.WAIT_CMD, WaitCmd, WRITE)
GET_ARRAY = _driver(Ioctl.GET_ARRAY, GetArray)
