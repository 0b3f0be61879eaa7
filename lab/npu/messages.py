"""Firmware messages as a table: opcode, name, exact request and response layouts.

The driver closes a channel whose answer has not exactly the size of its response structure ("Message
callback ret -22"), so answers are packed by this table and by nothing else. Sources: the driver's message
headers (drivers/accel/amdxdna/aie2_msg_priv.h of Linux 6.18 to 7.3 and of amd/xdna-driver, August 2026;
facts section 5.6). ``since`` follows the driver's feature tables (npu1_regs.c, npu4_regs.c).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from functools import cached_property

from lab.npu.generations import Family, Generation, Protocol


class Status(IntEnum):
    """Firmware status words (enum aie2_msg_status)."""

    SUCCESS = 0x0
    AIE_DMA_ERROR = 0x1000009
    NOT_AVAILABLE = 0x2000003
    MANAGEMENT_INVALID_PARAMETER = 0x2000004
    BUFFER_SIZE_INVALID = 0x2000008
    APPLICATION_FIRST_ERROR = 0x3000001
    INVALID_INSTRUCTION = 0x3000002
    INVALID_INPUT_BUFFER = 0x4000001
    INVALID_COMMAND = 0x4000002
    INVALID_PARAMETER = 0x4000003
    ASYNC_EVENTS_FULL = 0x4000007


class Scope(StrEnum):
    """Which channel a message belongs to."""

    MANAGEMENT = "management"
    CONTEXT = "context"


@dataclass(frozen=True)
class MessageKind:
    """One row. Layouts are ``struct`` formats, little endian, packed.

    ``requests``: every layout a released driver sends; the first that fits the size is used, later fields a
    driver leaves out read as zero. ``status``: index of the status word in the response.
    """

    opcode: int
    name: str
    scope: Scope
    requests: tuple[str, ...]
    response: str
    status: int = 0
    since: Mapping[str, Protocol] = field(default_factory=dict)  # generation -> first protocol that has it

    @cached_property
    def fields(self) -> int:
        """How many fields the response has."""
        return len(struct.unpack(self.response, bytes(struct.calcsize(self.response))))

    @property
    def response_size(self) -> int:
        return struct.calcsize(self.response)

    def parse(self, payload: bytes) -> tuple[int, ...] | None:
        """The request's fields, None when no known layout has this size."""
        for layout in self.requests:
            if struct.calcsize(layout) == len(payload):
                return struct.unpack(layout, payload)
        return None

    def answer(self, *values: int) -> bytes:
        """A response with these fields; those left out are zero."""
        return struct.pack(self.response, *values, *[0] * (self.fields - len(values)))

    def refusal(self, status: int) -> bytes:
        """A response of the right size that carries only a status."""
        values = [0] * self.fields
        values[self.status] = status
        return struct.pack(self.response, *values)

    def supported_by(self, generation: Generation) -> bool:
        """Whether firmware of the generation's protocol version has this message."""
        first = self.since.get(generation.name)
        return first is None or generation.protocol >= first


def _npu4_since(major: int, minor: int) -> Mapping[str, Protocol]:
    return dict.fromkeys(("npu4", "npu5", "npu6"), (major, minor))


_ANY = {"npu1": (1 << 32, 0)}  # npu1 firmware of protocol 5 does not have it
_M, _C = Scope.MANAGEMENT, Scope.CONTEXT
_TILE_INFO = "<2I20H"

AIE2: tuple[MessageKind, ...] = (
    MessageKind(0x002, "CREATE_CONTEXT", _M, ("<I6BH4I",), "<IIHBB16I"),
    MessageKind(0x003, "DESTROY_CONTEXT", _M, ("<I",), "<I"),
    MessageKind(0x004, "GET_TELEMETRY", _M, ("<IQI",), "<4I", status=3),
    MessageKind(0x007, "SYNC_BO", _C, ("<QQII",), "<I"),
    MessageKind(0x00C, "EXECUTE_BUFFER_CF", _C, ("<20I",), "<I"),
    MessageKind(0x00D, "QUERY_COL_STATUS", _M, ("<QIII",), "<II"),
    MessageKind(0x00E, "QUERY_AIE_TILE_INFO", _M, ("<I",), _TILE_INFO),
    MessageKind(0x00F, "QUERY_AIE_VERSION", _M, ("<I",), "<IHH"),
    MessageKind(0x010, "EXEC_DPU", _C, ("<Q38I",), "<I"),
    MessageKind(0x011, "CONFIG_CU", _C, ("<33I",), "<I"),
    # The request is a union in newer drivers, so the 16 bytes of the old chain come with 8 more.
    MessageKind(0x012, "CHAIN_EXEC_BUFFER_CF", _C, ("<QII", "<QII8x"), "<III"),
    MessageKind(0x013, "CHAIN_EXEC_DPU", _C, ("<QII", "<QII8x"), "<III"),
    MessageKind(0x014, "CONFIG_DEBUG_BO", _C, ("<QQI",), "<I"),
    MessageKind(
        0x018, "CHAIN_EXEC_NPU", _C, ("<IIQII",), "<III", since={"npu1": (5, 8), **_npu4_since(6, 15)}
    ),
    MessageKind(0x101, "SUSPEND", _M, ("<I",), "<I"),
    MessageKind(0x102, "RESUME", _M, ("<I",), "<I"),
    MessageKind(0x103, "ASSIGN_MGMT_PASID", _M, ("<HH",), "<I"),
    MessageKind(0x106, "MAP_HOST_BUFFER", _M, ("<IQQ",), "<I"),
    MessageKind(0x108, "GET_FIRMWARE_VERSION", _M, ("<I",), "<5I"),
    MessageKind(0x10A, "SET_RUNTIME_CONFIG", _M, ("<IQ",), "<I"),
    MessageKind(0x10B, "GET_RUNTIME_CONFIG", _M, ("<I",), "<IQ"),
    MessageKind(0x10C, "REGISTER_ASYNC_EVENT_MSG", _M, ("<QI",), "<II"),
    MessageKind(0x10F, "START_FW_TRACE", _M, ("<3IQI",), "<IIQI", since={**_ANY, **_npu4_since(6, 19)}),
    MessageKind(0x110, "STOP_FW_TRACE", _M, ("<I",), "<I", since={**_ANY, **_npu4_since(6, 19)}),
    MessageKind(0x111, "SET_FW_TRACE_CATEGORIES", _M, ("<I",), "<I", since={**_ANY, **_npu4_since(6, 19)}),
    MessageKind(0x113, "UPDATE_PROPERTY", _M, ("<IB7xII",), "<I", since={**_ANY, **_npu4_since(6, 15)}),
    MessageKind(0x114, "GET_APP_HEALTH", _M, ("<IIQ",), "<9I", since={**_ANY, **_npu4_since(6, 18)}),
    MessageKind(0x115, "ADD_HOST_BUFFER", _M, ("<IQQ",), "<I", since={**_ANY, **_npu4_since(6, 18)}),
    MessageKind(0x116, "CONFIG_FW_LOG", _M, ("<QI5I",), "<8I", since={**_ANY, **_npu4_since(6, 19)}),
    MessageKind(0x117, "GET_DEV_REVISION", _M, ("<I",), "<3I", since={**_ANY, **_npu4_since(6, 24)}),
    MessageKind(0x11C, "CALIBRATE_CLOCK", _M, ("<Q",), "<I", since={**_ANY, **_npu4_since(6, 24)}),
    MessageKind(0x301, "GET_PROTOCOL_VERSION", _M, ("<I",), "<III"),
)

AIE4: tuple[MessageKind, ...] = (
    MessageKind(0x30001, "CREATE_PARTITION", _M, ("<II",), "<II"),
    MessageKind(0x30002, "DESTROY_PARTITION", _M, ("<I",), "<I"),
    MessageKind(0x30003, "CREATE_HW_CONTEXT", _M, ("<6I",), "<4I"),
    MessageKind(0x30004, "DESTROY_HW_CONTEXT", _M, ("<I", "<II"), "<I"),
    MessageKind(0x30006, "AIE_TILE_INFO", _M, ("<I",), _TILE_INFO),
    MessageKind(0x30007, "AIE_VERSION_INFO", _M, ("<I",), "<IHH"),
)

MESSAGES: Mapping[Family, Mapping[int, MessageKind]] = {
    "aie2": {kind.opcode: kind for kind in AIE2},
    "aie4": {kind.opcode: kind for kind in AIE4},
}

QUEUE_COMMAND = "EXEC_BUF"
"""A packet of an AIE4 host queue: no message, but faults of commands name it like one."""

MESSAGE_NAMES = frozenset({*(kind.name for kind in (*AIE2, *AIE4)), QUEUE_COMMAND})
EXECUTION_NAMES = frozenset(
    {"EXECUTE_BUFFER_CF", "EXEC_DPU", "CHAIN_EXEC_BUFFER_CF", "CHAIN_EXEC_DPU", "CHAIN_EXEC_NPU"}
)
