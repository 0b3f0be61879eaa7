"""Descriptors handed on: the node's and a buffer's by SCM_RIGHTS, to another process and within one."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from harness.suite import packets, uapi
from harness.suite.child import NOBODY, as_user
from harness.suite.device import Buffer, Context, Device
from harness.suite.tests.conftest import Expect, Record

WORDS = b"written by the other process"


@contextmanager
def passed(*descriptors: int) -> Iterator[socket.socket]:
    """A socket in which copies of these descriptors wait to be received."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with here, there:
        socket.send_fds(here, [b"."], list(descriptors))
        yield there


def received(end: socket.socket) -> int:
    """The one descriptor that waits in a socket."""
    _data, descriptors, _flags, _address = socket.recv_fds(end, 1, 4)
    (descriptor,) = descriptors
    return descriptor


@pytest.mark.root
def test_client_passed_to_another_user(own: Device) -> None:
    """Who gets an open node from another process, though he may not open it, works on the same client."""
    with passed(own.fd) as end:

        def work() -> object:
            client = Device.around(received(end))
            buffer = client.buffer(uapi.Bo.SHARE, uapi.PAGE)
            buffer.memory.write(WORDS)
            return buffer.handle

        handle = as_user(NOBODY, work)
    assert isinstance(handle, int), handle
    assert own.map(handle, uapi.PAGE).read(len(WORDS)) == WORDS
    own.free(handle)


def test_context_through_a_passed_descriptor(
    device: Device, context: Context, command: Buffer, expect: Expect
) -> None:
    """A context takes commands through every descriptor of its client, and outlives all but the last."""
    assert expect("contexts-survive-fork") == "kept"  # the same flush, on closing any descriptor
    with passed(device.fd) as end, Device.around(received(end)) as other:
        command.memory.words(packets.start_cu())
        other.wait(context, other.execute(context, command))
    assert device.run(context, command, packets.start_cu()) == uapi.Command.COMPLETED


def test_client_lives_as_long_as_one_descriptor(node: str) -> None:
    """The buffers of a client whose first descriptor was closed are there for the second."""
    with Device(node) as first, passed(first.fd) as end:
        buffer = first.create_bo(uapi.Bo.SHARE, uapi.PAGE)
        with Device.around(received(end)) as second:
            first.close()
            assert second.bo_info(buffer).handle == buffer
            second.free(buffer)


@pytest.mark.root
def test_buffer_passed_to_another_process(node: str, device: Device, share: Buffer, record: Record) -> None:
    """A dma-buf sent to another process and imported by its client there is the same memory."""
    share.memory.write(b"from the first process")
    descriptor = device.export(share.handle)
    clients: list[Device] = []
    try:
        with passed(descriptor) as end:

            def work() -> object:
                client = clients[0]
                handle = client.adopt(received(end))
                memory = client.map(handle, share.size)
                seen = memory.read(22)
                memory.write(WORDS)
                client.free(handle)
                return seen.decode("ascii")

            seen = as_user(NOBODY, work, lambda: clients.append(Device(node)))
    finally:
        os.close(descriptor)
    record("seen", seen)
    assert seen == "from the first process"
    assert share.memory.read(len(WORDS)) == WORDS
