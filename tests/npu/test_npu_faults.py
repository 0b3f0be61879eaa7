"""Every fault by name: what the driver's side sees of it."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable

import pytest

from lab.npu.faults import FAULTS, FaultError, FaultPlan, PlannedFault, parse_fault
from tests.npu.fake_client import FakeDriver, GuestRam, Ring
from tests.npu.served import Serve

HEAP, HEAP_BUS = 0x4000000, 0x100000
VERSION = 0x108


def lab_with(serve: Serve, *faults: str, name: str = "npu4") -> tuple[FakeDriver, Ring]:
    driver = serve(name, *faults).driver()
    return driver, driver.boot()


def context_with_program(driver: FakeDriver, management: Ring) -> tuple[Ring, GuestRam, int]:
    """A context whose chain fills one word with 0x11223344."""
    ram = GuestRam(4 * 4096)
    driver.client.map_file(ram.fd, HEAP_BUS, 4 * 4096)
    number, ring = driver.create_context(management)
    management.call(0x106, "<IQQ", number, HEAP_BUS, 64 << 20)
    ram.bytes[0x100:0x110] = struct.pack("<4sHHII", b"XDNW", 1, 2, 4, 0x11223344)
    slot = struct.pack("<IQQQIIIIII", 2, HEAP + 0x100, 0, 0, 16, 0, 0, 0, 0, 2)
    ram.bytes[: len(slot) + 8] = slot + struct.pack("<II", HEAP + 0x2000, 0)
    return ring, ram, number


def run(ring: Ring, timeout: float = 5.0) -> bytes:
    return ring.call(0x18, "<IIQII", 0, 0, HEAP, 60, 1, timeout=timeout)


def check_drop(serve: Serve) -> None:
    _driver, management = lab_with(serve, "drop:message=GET_FIRMWARE_VERSION,nth=2")
    assert management.call(VERSION, "<I", 0)
    management.send(VERSION, bytes(4))
    assert management.answer(0.2) is None
    assert management.call(VERSION, "<I", 0)


def check_late(serve: Serve) -> None:
    _driver, management = lab_with(serve, "late:message=GET_FIRMWARE_VERSION,ms=300,nth=1")
    began = time.monotonic()
    first, second = management.send(VERSION, bytes(4)), management.send(0xF, bytes(4))
    answers = [management.answer(), management.answer()]
    assert time.monotonic() - began >= 0.3
    assert [answer.id for answer in answers if answer] == [first, second]


def check_duplicate(serve: Serve) -> None:
    _driver, management = lab_with(serve, "duplicate:message=GET_FIRMWARE_VERSION,nth=1")
    management.call(VERSION, "<I", 0)
    again = management.answer(1)
    assert again is not None
    assert again.opcode == VERSION
    assert management.answer(0.1) is None


def check_wrong_size(serve: Serve) -> None:
    _driver, management = lab_with(serve, "wrong-size:message=GET_FIRMWARE_VERSION,delta=-8,nth=1")
    assert len(management.call(VERSION, "<I", 0)) == 12
    assert len(management.call(VERSION, "<I", 0)) == 20


def check_malformed(serve: Serve) -> None:
    for part in ("id", "magic", "size", "zero-size"):
        driver, management = lab_with(serve, f"malformed:message=GET_FIRMWARE_VERSION,part={part}")
        message_id = management.send(VERSION, bytes(4))
        assert driver.client.wait_interrupt(0)
        total, _word, answered, _opcode = struct.unpack("<IIII", driver.sram(management.i2x_ring, 16))
        spoilt = {"id": answered != message_id, "magic": answered >> 24 != 0x1D, "size": total > 4096}
        assert spoilt.get(part, total == 0)


def check_reorder(serve: Serve) -> None:
    _driver, management = lab_with(serve, "reorder:message=GET_FIRMWARE_VERSION,nth=1")
    first, second = management.send(VERSION, bytes(4)), management.send(0xF, bytes(4))
    answers = [management.answer(), management.answer()]
    assert [answer.id for answer in answers if answer] == [second, first]


def test_an_answer_that_was_held_back_dies_with_its_channel(serve: Serve) -> None:
    driver, management = lab_with(serve, "reorder:message=CONFIG_CU,nth=1")
    number, ring = driver.create_context(management)
    ring.send(0x11, bytes(132))
    assert ring.answer(0.1) is None
    management.call(0x3, "<I", number)
    again = driver.create_context(management)[1]
    assert again.call(0x11, "<33I", *[0] * 33) == bytes(4)
    assert again.poll() is None


def check_fail(serve: Serve) -> None:
    driver, management = lab_with(serve, "fail:message=CREATE_CONTEXT,status=0x2000003,nth=1")
    payload = management.call(0x2, "<I6BH4I", 1, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 3)
    assert (len(payload), struct.unpack_from("<I", payload)[0]) == (76, 0x2000003)
    assert driver.create_context(management)[0] == 1, "the failed message did nothing"


def check_hung_command(serve: Serve) -> None:
    driver, management = lab_with(serve, "hung-command:nth=2")
    ring, ram, number = context_with_program(driver, management)
    assert run(ring) == bytes(12)
    for _ in range(2):
        ring.send(0x18, struct.pack("<IIQII", 0, 0, HEAP, 60, 1))
        assert ring.answer(0.2) is None, "the context stays hung"
    management.call(0x114, "<IIQ", number, 560, HEAP_BUS + 0x3000)
    assert struct.unpack_from("<I", ram.bytes, 0x3000 + 12)[0] != 0xFFFFFFFF, "the report says where"
    assert management.call(0x3, "<I", number) == bytes(4)
    again, _ram, _number = context_after(driver, management)
    assert run(again) == bytes(12)
    ram.close()


def context_after(driver: FakeDriver, management: Ring) -> tuple[Ring, None, int]:
    number, ring = driver.create_context(management)
    management.call(0x106, "<IQQ", number, HEAP_BUS, 64 << 20)
    return ring, None, number


def output_of(serve: Serve, fault: str) -> bytes:
    driver, management = lab_with(serve, fault)
    ring, ram, _number = context_with_program(driver, management)
    assert run(ring) == bytes(12), "the command reports success"
    data = bytes(ram.bytes[0x2000:0x2004])
    ram.close()
    return data


def check_wrong_result(serve: Serve) -> None:
    assert output_of(serve, "wrong-result") == struct.pack("<I", 0x11223344 ^ 0xFFFFFFFF)
    assert output_of(serve, "wrong-result:nth=2") == struct.pack("<I", 0x11223344)


def check_skipped_work(serve: Serve) -> None:
    assert output_of(serve, "skipped-work") == bytes(4)


def check_firmware_not_alive(serve: Serve) -> None:
    driver = serve("npu1", "firmware-not-alive").driver()
    assert driver.psp(2) == (True, 0)
    assert driver.alive() == 0


def check_slow_boot(serve: Serve) -> None:
    driver = serve("npu4", "slow-boot:ms=200").driver()
    assert driver.psp(2) == (True, 0)
    assert driver.alive() == 0
    time.sleep(0.4)
    assert driver.alive() != 0


def check_bad_magic(serve: Serve) -> None:
    driver = serve("npu4", "bad-magic:magic=0x1234").driver()
    driver.psp(2)
    assert driver.description()[8] == 0x1234


def check_unsupported_protocol(serve: Serve) -> None:
    driver = serve("npu4", "unsupported-protocol:protocol=9.3").driver()
    driver.psp(2)
    assert driver.description()[10:12] == (9, 3)


def check_psp_error(serve: Serve) -> None:
    driver = serve("npu4", "psp-error:command=START,status=5").driver()
    assert driver.psp(1) == (True, 0)
    assert driver.psp(2) == (True, 5)
    assert driver.alive() == 0


def check_psp_hang(serve: Serve) -> None:
    driver = serve("npu4", "psp-hang:command=VALIDATE").driver()
    assert driver.psp(1)[0] is False


def check_smu_error(serve: Serve) -> None:
    driver = serve("npu4", "smu-error:command=POWER_OFF,response=0xff").driver()
    assert driver.smu(3)[0] == 1
    assert driver.smu(4)[0] == 0xFF


def check_smu_hang(serve: Serve) -> None:
    driver = serve("npu1", "smu-hang:command=SET_*").driver()
    assert driver.smu(3)[0] == 1
    assert driver.smu(6, 800)[0] == 0


def wait_mode(driver: FakeDriver) -> int:
    assert driver.generation.psp is not None
    return driver.register(driver.generation.psp.wait_mode)


def check_suspend_stuck(serve: Serve) -> None:
    driver, management = lab_with(serve, "suspend-stuck")
    assert management.call(0x101, "<I", 0) == bytes(4)
    assert wait_mode(driver) == 0


def check_failed_suspend(serve: Serve) -> None:
    driver, management = lab_with(serve, "failed-suspend")
    assert management.call(0x101, "<I", 0) != bytes(4)
    assert wait_mode(driver) == 0


def check_failed_resume(serve: Serve) -> None:
    driver, management = lab_with(serve, "failed-resume")
    assert management.call(0x101, "<I", 0) == bytes(4)
    assert management.call(0x102, "<I", 0) != bytes(4)
    assert wait_mode(driver) == 1


def check_lost_interrupt(serve: Serve) -> None:
    driver, management = lab_with(serve, "lost-interrupt:message=GET_FIRMWARE_VERSION,nth=1")
    driver.client.interrupts(0)
    management.send(VERSION, bytes(4))
    assert not driver.client.wait_interrupt(0, 0.2)
    assert management.poll() is not None, "the answer is there"


def check_spurious_interrupt(serve: Serve) -> None:
    driver, management = lab_with(serve, "spurious-interrupt:message=GET_FIRMWARE_VERSION,times=50")
    driver.client.interrupts(0)
    management.send(VERSION, bytes(4))
    time.sleep(0.1)
    assert driver.client.interrupts(0) == 51


def check_interrupt_storm(serve: Serve) -> None:
    driver, management = lab_with(serve, "interrupt-storm:message=GET_FIRMWARE_VERSION,ms=0.1")
    driver.client.interrupts(0)
    management.send(VERSION, bytes(4))
    assert management.answer() is not None
    seen = 0
    while seen < 200:  # and it still answers
        time.sleep(0.02)
        seen += driver.client.interrupts(0)
    management.send(VERSION, bytes(4))
    assert management.answer() is not None


def check_garbage(serve: Serve) -> None:
    driver, management = lab_with(serve, "garbage:message=GET_FIRMWARE_VERSION,nth=1")
    management.send(VERSION, bytes(4))
    with pytest.raises(AssertionError, match=r"size|ring|message"):
        management.answer()  # nothing that the driver's rules take for a message
    assert driver.mailbox(management.i2x_tail) > 16


def check_ring_corruption(serve: Serve) -> None:
    driver, management = lab_with(serve, "ring-corruption:message=GET_FIRMWARE_VERSION,tail=0x7fff1")
    management.send(VERSION, bytes(4))
    assert driver.mailbox(management.i2x_tail) == 0x7FFF1


def check_async_error(serve: Serve) -> None:
    driver, management = lab_with(serve, "async-error:row=3,column=2,module=1,id=64")
    ring, ram, _number = context_with_program(driver, management)
    registered = management.send(0x10C, struct.pack("<QI", HEAP_BUS + 0x3000, 4096))
    assert management.answer(0.1) is None
    run(ring)
    answer = management.answer()
    assert answer is not None
    assert (answer.id, answer.payload) == (registered, bytes(8))
    assert struct.unpack_from("<III", ram.bytes, 0x3000) == (1, 0, 0)
    assert struct.unpack_from("<BBxxIB", ram.bytes, 0x300C) == (3, 2, 1, 64)
    run(ring)
    assert management.answer(0.1) is None, "once"
    ram.close()


def check_dma_out_of_range(serve: Serve) -> None:
    lab = serve("npu4", "dma-out-of-range:address=0xbad000")
    driver = lab.driver()
    ring, ram, _number = context_with_program(driver, driver.boot())
    assert run(ring) == bytes(12)
    assert driver.client.dma_messages == 1, "the client's IOMMU is asked although nothing is mapped there"
    assert [event["purpose"] for event in lab.events("dma-error")] == ["dma-out-of-range"]
    ram.close()


CHECKS: dict[str, Callable[[Serve], None]] = {
    name.removeprefix("check_").replace("_", "-"): check
    for name, check in list(globals().items())
    if name.startswith("check_")
}


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_fault(serve: Serve, name: str) -> None:
    CHECKS[name](serve)


def test_a_striking_fault_is_in_the_trace_and_a_sleeping_one_is_not(serve: Serve) -> None:
    lab = serve("npu4", "drop:message=GET_FIRMWARE_VERSION,after=3600", "duplicate:message=QUERY_AIE_VERSION")
    management = lab.driver().boot()
    management.call(VERSION, "<I", 0)
    management.call(0xF, "<I", 0)
    assert [(event["name"], event["subject"]) for event in lab.events("fault")] == [
        ("duplicate", "QUERY_AIE_VERSION")
    ]


def test_delays_are_kept_in_order_and_repeatable(serve: Serve) -> None:
    lab = serve("npu4", delay=(0.0, 0.02), seed=7)
    management = lab.driver().boot()
    ids = [management.send(VERSION, bytes(4)) for _ in range(10)]
    answers = [management.answer() for _ in ids]
    assert [answer.id for answer in answers if answer] == ids


@pytest.mark.parametrize(
    ("text", "occasions"),
    [
        ("drop", [1, 2, 3, 4, 5, 6]),
        ("drop:nth=3", [3]),
        ("drop:nth=3,count=2", [3, 4]),
        ("drop:count=2", [1, 2]),
        ("hung-command", [1]),
        ("hung-command:count=3", [1, 2, 3]),
        ("hung-command:nth=2", [2]),
    ],
)
def test_when_a_fault_strikes(text: str, occasions: list[int]) -> None:
    plan = FaultPlan([parse_fault(text)])
    name = text.partition(":")[0]
    struck = [n for n in range(1, 7) if plan.strike(name, subject="CHAIN_EXEC_NPU")]
    assert struck == occasions


def test_after_counts_from_the_plans_beginning() -> None:
    now = [100.0]
    plan = FaultPlan([parse_fault("drop:after=10,nth=1")], clock=lambda: now[0])
    assert plan.strike("drop", subject="SUSPEND") is None
    now[0] = 110.0
    assert plan.strike("drop", subject="SUSPEND") is not None


@pytest.mark.parametrize(
    "text",
    [
        "no-such-fault",
        "drop:mesage=SUSPEND",
        "drop:message",
        "drop:message=NO_SUCH_*",
        "drop:nth=0",
        "drop:nth=one",
        "late:ms=nan",
        "late:ms=1e9",
        "wrong-size:delta=3",
        "wrong-size:delta=0",
        "malformed:part=tail",
        "unsupported-protocol:protocol=6",
        "dma-out-of-range:size=100000",
        "async-error:row=256",
    ],
)
def test_a_typo_is_an_error(text: str) -> None:
    with pytest.raises(FaultError):
        parse_fault(text)


def test_values_are_read_by_their_type() -> None:
    fault: PlannedFault = parse_fault("fail:message=CHAIN_EXEC_*,status=0x10,nth=2")
    assert (fault.text("message"), fault.integer("status"), fault.integer("nth")) == ("CHAIN_EXEC_*", 16, 2)
    assert fault.concerns("CHAIN_EXEC_NPU")
    assert not fault.concerns("SUSPEND")


def test_several_faults_strike_one_message(serve: Serve) -> None:
    """An array error is reported on a message that is dropped: the report comes, the answer does not."""
    driver, management = lab_with(serve, "drop:message=*EXEC*", "async-error")
    ring, ram, _number = context_with_program(driver, management)
    registered = management.send(0x10C, struct.pack("<QI", HEAP_BUS + 0x3000, 4096))
    ring.send(0x18, struct.pack("<IIQII", 0, 0, HEAP, 60, 1))
    answer = management.answer()
    assert answer is not None
    assert answer.id == registered
    assert struct.unpack_from("<BBxxIB", ram.bytes, 0x300C) == (2, 1, 1, 55)
    assert ring.answer(0.2) is None
    ram.close()
