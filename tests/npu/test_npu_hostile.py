"""Clients that lie: refused and told about, while the server lives on for the next one."""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import socket
import struct
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lab.npu import connection, vfio_user
from tests.npu.fake_client import (
    CONFIG,
    DMA_MAP,
    DMA_READ,
    DMA_UNMAP,
    GET_INFO,
    GET_IRQ_INFO,
    GET_REGION_INFO,
    GET_REGION_IO_FDS,
    REGION_READ,
    REGION_WRITE,
    RESET,
    SET_IRQS,
    VERSION,
    ErrnoError,
    FakeClient,
    FakeDriver,
    GuestRam,
    RefusedError,
)
from tests.npu.served import Lab, Serve


def raw(lab: Lab) -> FakeClient:
    """A client that has not said hello."""
    client = FakeClient(lab.path)
    lab.clients.append(client)
    return client


def refusals(lab: Lab) -> list[str]:
    return [event["reason"] for event in lab.events("client-refused") if event["disconnected"]]


def still_serves(lab: Lab) -> None:
    client = lab.client()
    assert client.read(CONFIG, 0, 2) == b"\x22\x10"
    client.close()


def open_files() -> int:
    gc.collect()  # of devices of other tests
    return len(list(Path("/proc/self/fd").iterdir()))


HEADER = struct.Struct("<HHIII")


@pytest.mark.parametrize(
    "data",
    [
        HEADER.pack(1, VERSION, 15, 0, 0),  # shorter than its own header
        HEADER.pack(1, VERSION, 0, 0, 0),
        HEADER.pack(1, VERSION, 0xFFFFFFFF, 0, 0),  # four gigabytes to come
        HEADER.pack(1, VERSION, 1 << 21, 0, 0),
        HEADER.pack(1, VERSION, 16, 0x7, 0),  # no known type
        HEADER.pack(1, VERSION, 16, 1, 0),  # a reply to nothing
        HEADER.pack(1, REGION_READ, 32, 0, 0) + bytes(16),  # before VERSION
        HEADER.pack(1, VERSION, 18, 0, 0) + bytes(2),
        HEADER.pack(1, VERSION, 20, 0, 0) + struct.pack("<HH", 1, 0),  # another major
        HEADER.pack(1, VERSION, 28, 0, 0) + struct.pack("<HH", 0, 1) + b"not json",
        HEADER.pack(1, VERSION, 23, 0, 0) + struct.pack("<HH", 0, 1) + b"[1]",
        HEADER.pack(1, VERSION, 20 + 4000, 0, 0) + struct.pack("<HH", 0, 1) + b"[" * 4000,
        HEADER.pack(1, VERSION, 20 + 9000, 0, 0) + struct.pack("<HH", 0, 1) + b" " * 9000,
    ],
)
def test_a_broken_handshake_ends_the_connection(serve: Serve, data: bytes) -> None:
    lab = serve()
    client = raw(lab)
    client.sock.sendall(data)
    assert client.refused()
    assert len(refusals(lab)) == 1
    still_serves(lab)


@pytest.mark.parametrize("value", [0, -1, "1", 1.5, None, True])
def test_capabilities_of_the_wrong_kind_end_the_connection(serve: Serve, value: object) -> None:
    lab = serve()
    client = raw(lab)
    data = json.dumps({"capabilities": {"max_data_xfer_size": value}}).encode()
    client.send(VERSION, struct.pack("<HH", 0, 1) + data)
    assert client.refused()


def test_a_message_that_stops_in_the_middle(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MESSAGE_TIMEOUT", 0.2)
    lab = serve()
    client = lab.client()
    client.sock.sendall(HEADER.pack(1, REGION_READ, 32, 0, 0) + bytes(7))
    assert client.refused()
    assert "stopped" in refusals(lab)[0]
    still_serves(lab)


def test_a_stream_that_ends_in_the_middle(serve: Serve) -> None:
    lab = serve()
    client = lab.client()
    client.sock.sendall(HEADER.pack(1, REGION_READ, 32, 0, 0) + bytes(7))
    client.close()
    still_serves(lab)
    assert "ended" in refusals(lab)[0]


def test_a_silent_client_does_not_keep_others_out(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vfio_user, "HANDSHAKE_TIMEOUT", 0.2)
    lab = serve()
    client = raw(lab)
    assert client.refused()
    assert "VERSION" in refusals(lab)[0]
    still_serves(lab)


def test_a_client_that_does_not_read_is_refused(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MESSAGE_TIMEOUT", 0.2)
    lab = serve()
    client = lab.client()
    body = struct.pack("<QII", 0, 2, 0x40000)
    with contextlib.suppress(RefusedError, TimeoutError):
        for _ in range(10_000):
            client.send(REGION_READ, body)
    assert "does not read" in refusals(lab)[0]
    still_serves(lab)


def test_a_second_hello_is_declined(serve: Serve) -> None:
    client = serve().client()
    with pytest.raises(ErrnoError) as caught:
        client.hello()
    assert caught.value.number == errno.ENOTSUP


@pytest.mark.parametrize("command", [0, GET_REGION_IO_FDS, DMA_READ, 12, 14, 15, 16, 0xFFFF])
def test_unknown_commands_are_answered_not_supported(serve: Serve, command: int) -> None:
    lab = serve()
    client = lab.client()
    with pytest.raises(ErrnoError) as caught:
        client.request(command, bytes(64))
    assert caught.value.number == errno.ENOTSUP
    assert client.read(CONFIG, 0, 2) == b"\x22\x10"
    assert not lab.events("client-refused")[0]["disconnected"]


@pytest.mark.parametrize(
    ("command", "body"),
    [
        (GET_INFO, bytes(8)),
        (GET_REGION_INFO, bytes(16)),
        (GET_REGION_INFO, struct.pack("<IIIIQQ", 32, 0, 9, 0, 0, 0)),
        (GET_REGION_INFO, struct.pack("<IIIIQQ", 32, 0, 0xFFFFFFFF, 0, 0, 0)),
        (GET_IRQ_INFO, struct.pack("<IIII", 16, 0, 5, 0)),
        (REGION_READ, struct.pack("<QII", 0, 7, 0)),
        (REGION_READ, struct.pack("<QII", 0, 7, 4097)),
        (REGION_READ, struct.pack("<QII", 4093, 7, 4)),
        (REGION_READ, struct.pack("<QII", (1 << 64) - 2, 7, 4)),
        (REGION_READ, struct.pack("<QII", 0, 7, 0xFFFFFFFF)),
        (REGION_READ, struct.pack("<QII", 0, 3, 4)),  # a BAR that does not exist
        (REGION_READ, struct.pack("<QII", 0, 99, 4)),
        (REGION_READ, struct.pack("<QII", 0, 7, 4) + bytes(4)),
        (REGION_WRITE, struct.pack("<QII", 0, 7, 8) + bytes(4)),
        (REGION_WRITE, struct.pack("<QII", 0, 7, 4) + bytes(8)),
        (REGION_WRITE, struct.pack("<QII", 0x40000 - 2, 2, 4) + bytes(4)),
        (DMA_MAP, bytes(31)),
        (DMA_MAP, struct.pack("<IIQQQ", 8, 3, 0, 0x1000, 0x1000)),
        (DMA_MAP, struct.pack("<IIQQQ", 32, 0xFF, 0, 0x1000, 0x1000)),
        (DMA_MAP, struct.pack("<IIQQQ", 32, 3, 0, 0x1000, 0)),
        (DMA_MAP, struct.pack("<IIQQQ", 32, 3, 0, 0xFFFFFFFFFFFFF000, 0x2000)),
        (DMA_UNMAP, struct.pack("<IIQQ", 24, 0, 0x1001, 0x1000)),
        (DMA_UNMAP, struct.pack("<IIQQ", 24, 7, 0x1000, 0x1000)),
        (SET_IRQS, bytes(12)),
        (SET_IRQS, struct.pack("<IIIII", 20, 0x24, 2, 0, 0xFFFFFFFF)),
        (SET_IRQS, struct.pack("<IIIII", 20, 0x24, 2, 31, 2)),
        (SET_IRQS, struct.pack("<IIIII", 20, 0x26, 2, 0, 1)),
        (SET_IRQS, struct.pack("<IIIII", 20, 0x3F, 2, 0, 1)),
        (SET_IRQS, struct.pack("<IIIII", 20, 0x24, 0, 0, 1)),
        (SET_IRQS, struct.pack("<IIIII", 20, 0x24, 9, 0, 1)),
        (RESET, b"x"),
    ],
)
def test_requests_that_cannot_be_are_declined_and_the_talk_goes_on(
    serve: Serve, command: int, body: bytes
) -> None:
    lab = serve()
    client = lab.client()
    with pytest.raises(ErrnoError) as caught:
        client.request(command, body)
    assert caught.value.number == errno.EINVAL
    assert client.read(CONFIG, 0, 2) == b"\x22\x10"
    assert lab.events("client-refused")[0]["errno"] == errno.EINVAL


def test_declined_requests_keep_no_descriptor(serve: Serve) -> None:
    lab = serve()
    client = lab.client()
    ram = GuestRam(0x1000)
    before = open_files()
    for _ in range(20):
        for command, body in (
            (RESET, b""),
            (REGION_READ, struct.pack("<QII", 0, 7, 4)),
            (DMA_MAP, struct.pack("<IIQQQ", 32, 3, 0, 0x1001, 0x1000)),
            (SET_IRQS, struct.pack("<IIIII", 20, 0x24, 2, 0, 1)),  # a memfd is no eventfd
        ):
            with pytest.raises(ErrnoError):
                client.request(command, body, [ram.fd])
    with pytest.raises(ErrnoError):
        client.request(DMA_MAP, struct.pack("<IIQQQ", 32, 3, 0, 0x1000, 0x1000), [ram.fd, ram.fd])
    assert open_files() == before
    ram.close()


def test_a_flood_of_descriptors_is_refused_and_closed(serve: Serve) -> None:
    lab = serve()
    client = lab.client()
    read, write = os.pipe()
    before = open_files()
    body = struct.pack("<IIQQQ", 32, 3, 0, 0x1000, 0x1000)
    client.send(DMA_MAP, body, [read] * 200)
    assert client.refused()
    assert "descriptors" in refusals(lab)[0]
    client.close()
    still_serves(lab)
    deadline = time.monotonic() + 5
    while open_files() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert open_files() <= before
    os.close(read)
    os.close(write)


def test_descriptors_in_every_part_of_a_message_are_counted_together(serve: Serve) -> None:
    lab = serve()
    client = lab.client()
    read, write = os.pipe()
    data = HEADER.pack(1, DMA_MAP, 48, 0, 0) + bytes(32)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for place in range(len(data)):
            socket.send_fds(client.sock, [data[place : place + 1]], [read] * 4)
            time.sleep(0.02)
    assert client.refused()
    os.close(read)
    os.close(write)
    still_serves(lab)


def test_an_endless_stream_of_mistakes_is_refused(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vfio_user, "MAX_MISTAKES", 10)
    lab = serve()
    client = lab.client()
    for _ in range(9):
        with pytest.raises(ErrnoError):
            client.read(CONFIG, 0, 0)
    with pytest.raises(RefusedError):
        client.read(CONFIG, 0, 0)
    assert len(refusals(lab)) == 1
    still_serves(lab)


def test_interrupts_are_given_back_and_taken_away(serve: Serve) -> None:
    lab = serve()
    client = lab.client()
    before = open_files()
    client.wire(32)
    assert open_files() == before + 64  # ours and the server's
    client.wire(32)
    assert open_files() == before + 96
    client.request(SET_IRQS, struct.pack("<IIIII", 20, 0x24, 2, 0, 8))
    assert open_files() == before + 88
    client.request(SET_IRQS, struct.pack("<IIIII", 20, 0x21, 2, 0, 0))
    assert open_files() == before + 64


def test_posted_writes_get_no_answer(serve: Serve) -> None:
    client = serve().client()
    client.write(2, 0x10, b"posted!!", posted=True)
    client.write(2, 1 << 40, b"nonsense", posted=True)
    assert client.read(2, 0x10, 8) == b"posted!!"


def test_memory_without_a_file_is_reached_by_messages(serve: Serve) -> None:
    lab = serve()
    driver = lab.driver()
    management = driver.boot()
    memory = driver.client.map_remote(0x100000, 0x2000)
    payload = management.call(0x4, "<IQI", 1, 0x100F80, 256)
    assert struct.unpack("<4I", payload)[2:] == (256, 0)
    assert memory[0xF80:0x1080] == bytes(range(256))
    assert driver.client.dma_messages == 1


def test_the_clients_transfer_size_is_kept(serve: Serve) -> None:
    lab = serve()
    client = lab.client(max_data_xfer_size=64)
    client.wire(lab.generation.vectors)
    management = FakeDriver(client, lab.generation).boot()
    memory = client.map_remote(0x100000, 0x1000)
    management.call(0x4, "<IQI", 1, 0x100000, 256)
    assert memory[:256] == bytes(range(256))
    assert client.dma_messages == 4


def test_a_client_that_refuses_dma_is_a_dma_error(serve: Serve) -> None:
    lab = serve()
    driver = lab.driver()
    management = driver.boot()
    driver.client.map_remote(0x100000, 0x1000)
    driver.client.remote_error = errno.EFAULT
    payload = management.call(0x4, "<IQI", 1, 0x100000, 256)
    assert struct.unpack("<4I", payload)[3] != 0
    assert "errno 14" in lab.events("dma-error")[0]["reason"]


def test_a_client_that_answers_dma_with_nonsense_is_refused(serve: Serve) -> None:
    lab = serve()
    driver = lab.driver()
    management = driver.boot()
    client = driver.client
    client.map_remote(0x100000, 0x1000)
    message = struct.pack("<IIII", 16, 16 | 1 << 16, 0x1D000001, 0x4) + struct.pack("<IQI", 1, 0x100000, 64)
    driver.sram_write(management.x2i_ring, message)
    register = struct.pack("<QII", management.x2i_tail, driver.layout.register_bar, 4)
    client.send(REGION_WRITE, register + struct.pack("<I", len(message)))
    assert client.receive()[1] == REGION_WRITE
    message_id, number, _flags, _error, _body = client.receive()
    assert number == 12
    client.sock.sendall(HEADER.pack(message_id ^ 1, number, 32, 1, 0) + bytes(16))
    assert client.refused()
    still_serves(lab)


def test_a_client_that_reads_registers_in_place_of_answering_is_refused(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "DMA_TIMEOUT", 0.3)
    lab = serve()
    driver = lab.driver()
    management = driver.boot()
    client = driver.client
    client.map_remote(0x100000, 0x1000)
    message = struct.pack("<IIII", 16, 16 | 1 << 16, 0x1D000001, 0x4) + struct.pack("<IQI", 1, 0x100000, 64)
    driver.sram_write(management.x2i_ring, message)
    register = struct.pack("<QII", management.x2i_tail, driver.layout.register_bar, 4)
    client.send(REGION_WRITE, register + struct.pack("<I", len(message)))
    until = time.monotonic() + 30
    with pytest.raises(RefusedError):
        read_until_refused(client, until)
    assert time.monotonic() < until
    still_serves(lab)


def read_until_refused(client: FakeClient, until: float) -> None:
    """Read a register again and again."""
    while time.monotonic() < until:
        client.send(REGION_READ, struct.pack("<QII", 0, CONFIG, 2))
        client.receive()


def test_a_register_is_answered_while_a_dma_answer_is_awaited(serve: Serve) -> None:
    """QEMU cannot answer the one before it has the other; a read of what was written waits for the write."""
    lab = serve()
    driver = lab.driver()
    management = driver.boot()
    client = driver.client
    memory = client.map_remote(0x100000, 0x1000)
    message = struct.pack("<IIII", 16, 16 | 1 << 16, 0x1D000001, 0x4) + struct.pack("<IQI", 1, 0x100000, 64)
    driver.sram_write(management.x2i_ring, message)
    register = struct.pack("<QII", management.x2i_tail, driver.layout.register_bar, 4)
    write_id = client.send(REGION_WRITE, register + struct.pack("<I", len(message)))
    assert client.receive()[0] == write_id, "before the effects"
    dma_id, number, _flags, _error, body = client.receive()
    again_id = client.send(REGION_WRITE, register + struct.pack("<I", len(message)))
    assert client.receive()[0] == again_id
    read_id = client.send(REGION_READ, struct.pack("<QII", 0, CONFIG, 2))
    assert client.receive()[0] == read_id
    same_id = client.send(REGION_READ, register)
    address, count = struct.unpack_from("<QQ", body)
    memory[:count] = body[16:]
    answer = struct.pack("<QI", address, count)  # the specification's 12 bytes
    client.sock.sendall(HEADER.pack(dma_id, number, 16 + len(answer), 1, 0) + answer)
    assert client.receive()[0] == same_id
    assert memory[:64] == bytes(range(64))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(min_size=1, max_size=300), greet=st.booleans())
def test_random_bytes_never_end_the_server(fuzzed: Lab, data: bytes, greet: bool) -> None:
    client = raw(fuzzed)
    if greet:
        client.hello()
    client.sock.sendall(data)
    client.sock.shutdown(socket.SHUT_WR)
    assert client.refused()
    client.close()
    still_serves(fuzzed)


COMMANDS = st.sampled_from([DMA_MAP, DMA_UNMAP, GET_INFO, GET_REGION_INFO, GET_IRQ_INFO, SET_IRQS, RESET])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.tuples(COMMANDS, st.binary(max_size=48)),
            st.tuples(
                st.just(REGION_WRITE),
                st.builds(
                    lambda offset, region, data: struct.pack("<QII", offset, region, len(data)) + data,
                    st.integers(0, 0x40000),
                    st.sampled_from([0, 2, 4, 5, 7]),
                    st.binary(min_size=1, max_size=32),
                ),
            ),
        ),
        max_size=12,
    )
)
def test_well_framed_nonsense_is_answered_message_by_message(
    fuzzed: Lab, messages: list[tuple[int, bytes]]
) -> None:
    client = fuzzed.client()
    ids = [client.send(number, body) for number, body in messages]
    for asked in ids:
        message_id, number, flags, _error, body = client.receive()
        while not flags & 1:
            client._serve_dma(message_id, number, body)
            message_id, number, flags, _error, body = client.receive()
        assert message_id == asked
    client.close()


@pytest.fixture
def fuzzed(serve: Serve) -> Lab:
    return serve()
