"""Defects of the driver that were found here: each reproducer, in a process of its own.

Every row is a program of ``harness.suite.reproducers`` and a page of docs/defects. The program says in
one line what is wrong, or nothing where it is right; a row fails as long as the running kernel has it.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import pytest

from harness.suite.child import answer_of
from harness.suite.tests.conftest import LOST, Expect, Record

TIME = 30.0  # seconds of one reproducer; the longest waits 20
# name of the reproducer, what is suspected
ANY_TIME = (
    ("read_only_map", "mapping for reading only raises a kernel warning any user can cause"),
    ("dma_buf_map_offset", "a dma-buf mapped at an offset shows its first pages"),
    ("user_memory_size", "the size of a buffer over user memory is not compared with the memory"),
    ("debug_buffer_orphan", "a debug buffer stays with a context that is gone"),
    ("command_without_arguments", "a START_CU with too many words completes without its arguments"),
    ("unsent_command", "a command that cannot be sent ends with success and state NEW"),
    ("context_leak", "a context whose power level cannot be set stays when its creation fails"),
    ("hang_deadlock", "a call behind four hung commands keeps the recovery from its lock"),
    ("lost_after_timeout", "after a timeout commands are waited for successfully and never run"),
    ("hang_unseen", "a command that hangs is not noticed while another client computes"),
    ("qos_overflow", "an impossible wish for quality of service is granted when it overflows"),
    ("heap_second_map", "after a second mapping of the heap buffers lie where nothing is mapped"),
    ("heap_growth_refused", "a heap that the firmware cannot use grows, and then nothing can be made of it"),
    ("late_answer", "one late answer of the firmware, and nobody is served as long as anybody asks"),
    ("clock_stays_up", "a context that has gone keeps the clock up for as long as another one lives"),
    ("first_command_zero", "the first command of a context has a number that a time line does not have"),
    ("unit_wraps", "a command for compute unit 35 is run on unit 3"),
    ("shared_domain", "with force_iova every client's commands reach every client's buffers"),
    ("debug_buffer_closed", "a debug buffer that is closed stays with the firmware, its place given away"),
    ("close_hung", "ending a client takes the device from all for 2 s for each context that hangs"),
    ("debug_wait_locks", "a debug buffer asked for behind a hung command locks opening and closing"),
    ("telemetry_spoiled", "one context that could not be made anew spoils everybody's telemetry"),
    ("close_waits", "closing a buffer waits for another client's command"),
    ("opener_memory", "whoever is given an open node works on the memory of the process that opened it"),
)
AIE4 = (
    ("aie4_heap_warning", "asking an AIE4 for a device heap raises a kernel warning each time"),
    ("queue_index_flood", "a queue with impossible indices makes WAIT_CMD fill the kernel log"),
    ("stale_doorbell", "a doorbell stays mapped after its context is gone, and rings for the next owner"),
    ("wait_locks_device", "a WAIT_CMD beside a DESTROY_HWCTX locks the device for everybody"),
)
# These show themselves where the device uses the process's addresses only.
SHARED_ADDRESSES = {"opener_memory", "close_waits"}
LOSING = {"heap_growth_deadlock", "async_error_null"}  # leave a device that answers nobody
FORCE_IOVA = Path("/sys/module/amdxdna/parameters/force_iova")  # since 7.1
# What a reproducer asks of the driver beside its defect: without it there is nothing to show.
NEEDS = {
    "debug_buffer_orphan": "debug-buffer",
    "debug_buffer_sleep": "debug-buffer",
    "debug_buffer_closed": "debug-buffer",
    "sync_other_buffer": "debug-buffer",
    "debug_wait_locks": "debug-buffer",
    "async_event_lost": "async-error",
    "telemetry_spoiled": "telemetry",
    "frame_preempt_sleep": "preempt",
    "unit_forgotten": "resource-info",
    "context_leak": "resource-info",
}
USE_AFTER_FREE = "a named heap buffer outlives its client: use after free (root)"
LOCKED = "growing the heap while allocating from it locks the device for ever"
FORGOTTEN = "closing the buffer of a compute unit makes the device unusable for everybody"
AWAKE = "a machine with an AIE4 cannot go to sleep"
ABSENT = "a query whose answer goes to a page that is not there keeps the device from everybody"
SLEPT = "a context's debug buffer is forgotten when the device sleeps"
FLOOD = "each wrong call of a user is an error in the kernel's log"
EVENT_LOST = "a report of an array error that cannot be used takes its buffer with it"
WORKER = "an array error reported while the firmware falls silent dereferences a null pointer"
EXCHANGED = "a SYNC_BO whose buffer is exchanged has the firmware write where no debug buffer is"
PREEMPT = "frame boundary preemption is forgotten when the device sleeps"
DROPPED = "dropping the pages of a mapped dma-buf and touching one again is a kernel BUG"
SUSPECT, CRASH, LAST = pytest.mark.suspect, pytest.mark.crash, pytest.mark.last
QUEUE, PM, ROOT = pytest.mark.host_queue, pytest.mark.pm, pytest.mark.root
ROWS = [
    *(pytest.param(name, marks=SUSPECT(text), id=name) for name, text in ANY_TIME),
    *(pytest.param(name, marks=[SUSPECT(text), QUEUE], id=name) for name, text in AIE4),
    pytest.param("aie4_no_sleep", marks=[SUSPECT(AWAKE), QUEUE, PM, ROOT], id="aie4_no_sleep"),
    pytest.param("flink_after_close", marks=[SUSPECT(USE_AFTER_FREE), CRASH, ROOT], id="flink_after_close"),
    pytest.param("unit_forgotten", marks=[SUSPECT(FORGOTTEN), CRASH, LAST], id="unit_forgotten"),
    pytest.param("debug_buffer_sleep", marks=[SUSPECT(SLEPT), PM, ROOT], id="debug_buffer_sleep"),
    pytest.param("answer_not_there", marks=[SUSPECT(ABSENT), ROOT], id="answer_not_there"),
    pytest.param("frame_preempt_sleep", marks=[SUSPECT(PREEMPT), PM, ROOT], id="frame_preempt_sleep"),
    pytest.param("sync_other_buffer", marks=[SUSPECT(EXCHANGED), ROOT], id="sync_other_buffer"),
    pytest.param("log_flood", marks=[SUSPECT(FLOOD), ROOT], id="log_flood"),
    pytest.param("async_event_lost", marks=[SUSPECT(EVENT_LOST), ROOT], id="async_event_lost"),
    pytest.param("async_error_null", marks=[SUSPECT(WORKER), CRASH, LAST], id="async_error_null"),
    pytest.param("dma_buf_dropped_page", marks=[SUSPECT(DROPPED), CRASH, LAST], id="dma_buf_dropped_page"),
    pytest.param("heap_growth_deadlock", marks=[SUSPECT(LOCKED), CRASH, LAST], id="heap_growth_deadlock"),
]


@pytest.mark.limit(TIME + 10)
@pytest.mark.logs(".")
@pytest.mark.usefixtures("program")
@pytest.mark.parametrize("name", ROWS)
def test_defect(request: pytest.FixtureRequest, name: str, node: str, expect: Expect, record: Record) -> None:
    """A reproducer finds nothing to complain of."""
    if name in NEEDS and expect(NEEDS[name]) != "ok":
        pytest.skip(f"this kernel lacks what the reproducer uses: {NEEDS[name]}")
    if name in SHARED_ADDRESSES and FORCE_IOVA.exists() and FORCE_IOVA.read_text("ascii").strip() == "Y":
        pytest.skip("the device has addresses of its own: amdxdna.force_iova")
    module = importlib.import_module(f"harness.suite.reproducers.{name}")
    found = answer_of(lambda: module.show(node), TIME)
    record("found", found)
    if found and name in LOSING:
        request.config.stash[LOST] = True
    assert found == "", f"{found} (docs/defects/{name.replace('_', '-')}.md)"
    assert os.access(node, os.R_OK)
