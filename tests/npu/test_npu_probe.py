"""The probe and everyday messages, as the driver of every generation does them."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest

from lab.npu.generations import GENERATIONS
from lab.npu.messages import MESSAGES, Scope
from tests.npu.fake_client import CONFIG, ErrnoError, FakeDriver, Ring
from tests.npu.served import Serve

AIE2 = ("npu1", "npu4", "npu5", "npu6")


def walk(config: bytes, start: int, *, extended: bool) -> dict[int, int]:
    """Capability id -> offset, following the chain."""
    found: dict[int, int] = {}
    place = start
    while place:
        if extended:
            word = struct.unpack_from("<I", config, place)[0]
            found[word & 0xFFFF] = place
            place = word >> 20
        else:
            found[config[place]] = place
            place = config[place + 1]
        assert len(found) < 16, "the chain has a loop"
    return found


@pytest.mark.parametrize("name", sorted(GENERATIONS))
def test_config_space_carries_what_the_driver_matches_on(serve: Serve, name: str) -> None:
    lab = serve(name)
    config = lab.client().read(CONFIG, 0, 4096)
    vendor, device = struct.unpack_from("<HH", config, 0)
    assert (vendor, device, config[8]) == (0x1022, lab.generation.device, lab.generation.revision)
    standard = walk(config, config[0x34], extended=False)
    assert set(standard) == {0x01, 0x10, 0x11}
    control = struct.unpack_from("<H", config, standard[0x11] + 2)[0]
    assert control & 0x7FF == lab.generation.vectors - 1
    extended = walk(config, 0x100, extended=True)
    assert set(extended) == {0x0F, 0x1B, 0x13}
    # Without "PRG response needs a PASID" the IOMMU code refuses (-22), without 20 PASID bits SVA does.
    assert struct.unpack_from("<H", config, extended[0x13] + 6)[0] & 0x8000
    assert struct.unpack_from("<H", config, extended[0x1B] + 4)[0] >> 8 == 20
    assert struct.unpack_from("<I", config, standard[0x10] + 0x24)[0] & 0x200000


def test_identity_cannot_be_written_but_control_registers_can(serve: Serve) -> None:
    client = serve().client()
    before = client.read(CONFIG, 0, 4096)
    client.write(CONFIG, 0, b"\xff" * 4)
    client.write(CONFIG, 4, b"\x06\x00")
    client.write(CONFIG, 0x116, b"\x01\x00")  # PASID enable
    after = client.read(CONFIG, 0, 4096)
    assert after[:4] == before[:4]
    assert after[4:6] == b"\x06\x00"
    assert after[0x116] == 1
    client.request(13)
    assert client.read(CONFIG, 0, 4096) == before


@pytest.mark.parametrize("name", AIE2)
def test_probe(serve: Serve, name: str) -> None:
    lab = serve(name)
    driver = lab.driver()
    management = driver.boot()
    generation = lab.generation
    assert management.call(0x108, "<I", 0) == struct.pack("<5I", 0, *generation.firmware)
    assert management.call(0x301, "<I", 0) == struct.pack("<3I", 0, *generation.protocol)
    assert management.call(0xF, "<I", 0) == struct.pack("<IHH", 0, *generation.array.version)
    tiles = management.call(0xE, "<I", 0)
    assert struct.unpack_from("<IIHHHH", tiles) == (
        0, generation.array.column_size, *generation.array.version, generation.array.columns, 6
    )  # fmt: skip
    assert driver.description()[10:12] == generation.protocol
    assert not lab.events("model-gap", "client-refused", "ring-error", "bad-request")


@pytest.mark.parametrize("name", AIE2)
def test_every_message_is_answered_in_exactly_the_size_of_the_drivers_structure(
    serve: Serve, name: str
) -> None:
    lab = serve(name)
    driver = lab.driver()
    management = driver.boot()
    number, ring = driver.create_context(management)
    silent = {0x10C}  # the registration of an error buffer is answered when there is an error
    last = (0x3,)
    table = MESSAGES["aie2"]
    for opcode in [*(set(table) - silent - set(last)), *last]:
        kind = table[opcode]
        channel = management if kind.scope is Scope.MANAGEMENT else ring
        for layout in kind.requests:
            fields = [0] * len(struct.unpack(layout, bytes(struct.calcsize(layout))))
            if opcode in (0x3, 0x106, 0x114, 0x115):
                fields[0] = number
            payload = channel.call(opcode, layout, *fields)
            assert len(payload) == kind.response_size, kind.name
    if name != "npu1":
        assert not lab.events("model-gap")
    else:
        gaps = {event["name"] for event in lab.events("model-gap")}
        assert gaps == {kind.name for kind in table.values() if not kind.supported_by(lab.generation)}


def test_suspend_shows_the_wait_mode_and_resume_ends_it(serve: Serve) -> None:
    driver = serve("npu1").driver()
    management = driver.boot()
    place = driver.generation.psp
    assert place is not None
    assert driver.register(place.wait_mode) == 0
    management.call(0x101, "<I", 0)
    assert driver.register(place.wait_mode) & 1
    management.call(0x102, "<I", 0)
    assert driver.register(place.wait_mode) == 0


@pytest.mark.parametrize("strike", [True, False])
def test_npu4_power_commands_run_once_with_and_without_the_interrupt(serve: Serve, strike: bool) -> None:
    """Drivers before June 2026 write the command and strike the interrupt, later ones only write."""
    lab = serve("npu4")
    driver = lab.driver()
    assert driver.smu(7, 5, strike=strike) == (1, 5)
    assert driver.smu(7, 5, strike=strike) == (1, 5)
    assert [event["name"] for event in lab.events("smu")] == ["SET_SOFT_DPM"] * 2


def test_without_power_there_is_no_firmware(serve: Serve) -> None:
    driver = serve("npu4").driver()
    management = driver.boot()
    assert driver.smu(4) == (1, 0)
    management.send(0x108, bytes(4))
    assert management.answer(0.2) is None


def test_npu1_power_commands_need_the_interrupt(serve: Serve) -> None:
    driver = serve("npu1").driver()
    assert driver.smu(5, 800, strike=False)[0] == 0
    assert driver.smu(5, 800) == (1, 800)


def test_a_context_answers_on_its_own_vector_and_is_gone_when_destroyed(serve: Serve) -> None:
    lab = serve()
    driver = lab.driver()
    management = driver.boot()
    first, ring = driver.create_context(management, columns=4)
    second, other = driver.create_context(management, start=4, columns=4)
    assert ring.vector != other.vector != management.vector
    driver.client.interrupts(ring.vector)
    assert ring.call(0x11, "<33I", 1, *[0] * 32) == bytes(4)
    assert management.call(0x3, "<I", first) == bytes(4)
    ring.send(0x11, bytes(132))
    assert ring.answer(0.3) is None
    assert other.call(0x11, "<33I", 1, *[0] * 32) == bytes(4)
    assert management.call(0x3, "<I", first) != bytes(4)
    assert second != first
    assert driver.create_context(management)[0] == first


def test_the_array_runs_out_of_contexts(serve: Serve) -> None:
    driver = serve("npu1").driver()
    management = driver.boot()
    numbers = [driver.create_context(management)[0] for _ in range(6)]
    assert len(set(numbers)) == 6
    payload = management.call(0x2, "<I6BH4I", 1, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 3)
    assert struct.unpack_from("<I", payload)[0] == 0x2000003
    assert len(payload) == 76


def test_all_sixteen_contexts_of_npu4_have_rings_of_their_own(serve: Serve) -> None:
    """The alive word stands in the middle of the rings' memory; no ring may cover it."""
    driver = serve("npu4").driver()
    management = driver.boot()
    assert driver.layout.alive_offset is not None
    spans = [(ring.x2i_ring, ring.i2x_ring + ring.size) for ring in [management]]
    for _ in range(16):
        ring: Ring = driver.create_context(management)[1]
        spans.append((ring.x2i_ring, ring.i2x_ring + ring.size))
    spans += [(driver.layout.alive_offset, driver.layout.alive_offset + 4)]
    spans += [(driver.layout.info_offset, driver.layout.info_offset + 64)]
    spans.sort()
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_async_errors_are_not_answered_until_there_is_one(serve: Serve) -> None:
    driver = serve().driver()
    management = driver.boot()
    management.send(0x10C, struct.pack("<QI", 0x1000, 8192))
    assert management.answer(0.2) is None


@pytest.mark.parametrize(
    ("opcode", "payload", "reason"),
    [
        (0x999, bytes(8), "unknown-message"),
        (0x108, bytes(12), "message-size"),
        (0x104, bytes(4), "unknown-message"),
    ],
)
def test_what_the_model_does_not_know_is_a_gap_and_not_a_success(
    serve: Serve, opcode: int, payload: bytes, reason: str
) -> None:
    lab = serve()
    management = lab.driver().boot()
    management.send(opcode, payload)
    answer = management.answer()
    assert answer is not None
    assert struct.unpack_from("<I", answer.payload)[0] == 0x4000002
    assert [event["reason"] for event in lab.events("model-gap")] == [reason]


def test_a_message_on_the_wrong_kind_of_channel_is_the_drivers_mistake(serve: Serve) -> None:
    lab = serve()
    driver = lab.driver()
    management = driver.boot()
    _number, ring = driver.create_context(management)
    assert struct.unpack_from("<I", management.call(0x11, "<33I", *[0] * 33))[0] == 0x4000002
    assert struct.unpack_from("<I", ring.call(0x108, "<I", 0))[0] == 0x4000002
    assert [event["name"] for event in lab.events("bad-request")] == ["CONFIG_CU", "GET_FIRMWARE_VERSION"]


def test_a_message_of_a_later_protocol_is_a_gap(serve: Serve) -> None:
    lab = serve("npu4", protocol=(6, 12))
    management = lab.driver().boot()
    assert struct.unpack_from("<I", management.call(0x117, "<I", 0))[0] == 0x4000002
    assert [event["name"] for event in lab.events("model-gap")] == ["GET_DEV_REVISION"]


def test_registers_the_model_does_not_know_are_gaps_told_once(serve: Serve) -> None:
    lab = serve()
    client = lab.client()
    for _ in range(3):
        client.read(0, 0x2000, 4)
    client.write(0, 0x2000, bytes(4))
    client.read(4, 0x10, 2)
    gaps = [(event["reason"], event["access"]) for event in lab.events("model-gap")]
    assert gaps == [("unknown-register", "read"), ("unknown-register", "write"), ("register-width", "read")]


def test_unknown_psp_and_smu_commands_are_gaps_and_fail(serve: Serve) -> None:
    lab = serve()
    driver = lab.driver()
    assert driver.psp(9)[1] != 0
    assert driver.smu(0x42)[0] not in (0, 1)
    assert {event["reason"] for event in lab.events("model-gap")} == {"psp-command", "smu-command"}


def test_reset_and_release_silence_the_firmware(serve: Serve) -> None:
    driver = serve().driver()
    management = driver.boot()
    assert driver.psp(3) == (True, 0)
    management.send(0x108, bytes(4))
    assert management.answer(0.2) is None
    driver.boot()
    driver.client.request(13)
    assert driver.alive() == 0
    assert driver.boot().call(0x108, "<I", 0)


def test_the_virtual_function_describes_its_channel_at_once_and_makes_partitions(serve: Serve) -> None:
    lab = serve("npu3vf")
    driver = FakeDriver(lab.client(), lab.generation)
    driver.client.wire(lab.generation.vectors)
    words = struct.unpack("<12I", driver.sram(0, 48))
    assert words[:3] == (1, 5, 10)
    management = driver._ring(words[3:7], words[7:11], words[11])
    assert len(management.call(0x30006, "<I", 0)) == 48
    status, partition = struct.unpack("<II", management.call(0x30001, "<II", 0, 3))
    assert status == 0
    assert partition != 0
    assert management.call(0x30002, "<I", partition) == bytes(4)
    assert management.call(0x30001, "<II", 1, 3)[:4] != bytes(4)
    assert not lab.events("model-gap")


def test_a_new_client_finds_a_fresh_device(serve: Serve) -> None:
    lab = serve()
    driver = lab.driver()
    driver.boot()
    driver.client.close()
    again = lab.driver()
    assert again.alive() == 0
    assert again.boot().call(0x108, "<I", 0)
    with pytest.raises(ErrnoError):
        again.client.read(3, 0, 4)
