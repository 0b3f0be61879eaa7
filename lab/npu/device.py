"""The device as the bus sees it: regions, register writes that have effects, reset and firmware life."""

from __future__ import annotations

import random
import struct
from typing import Protocol

from lab.npu.faults import FaultPlan, parse_protocol
from lab.npu.firmware import Firmware, Surroundings
from lab.npu.firmware_aie2 import Aie2Firmware
from lab.npu.firmware_aie4 import DOORBELL_PAGE, Aie4Firmware
from lab.npu.generations import Generation, Register
from lab.npu.mailbox import I2X_HEAD, IRQ_STATUS, REGISTER_STRIDE, X2I_TAIL, Channel
from lab.npu.memory import GuestMemory
from lab.npu.pci import CONFIG_SIZE, ConfigSpace
from lab.npu.protocol import REGION_CONFIG
from lab.npu.psp import Psp
from lab.npu.registers import RegisterFile
from lab.npu.smu import Smu
from lab.npu.timers import Timers
from lab.npu.trace import Trace

CHANNEL_MAGIC = 0x55504E5F  # "_NPU", the description of the management channel (facts section 5.4)
MANAGEMENT_VECTOR = 0
_FIRMWARE = {"aie2": Aie2Firmware, "aie4": Aie4Firmware}


class Interrupts(Protocol):
    """The client's interrupts."""

    def trigger(self, vector: int) -> bool:
        """Raise one; False when the client has not wired it."""
        ...


class Device:
    """One NPU. ``delay`` is the range of seconds every answer takes; ``seed`` makes it repeatable."""

    def __init__(
        self,
        generation: Generation,
        *,
        trace: Trace,
        faults: FaultPlan,
        timers: Timers,
        delay: tuple[float, float] = (0.0, 0.0),
        seed: int = 0,
    ) -> None:
        self.generation = generation
        self.vectors = generation.vectors
        self.config = ConfigSpace(generation)
        self.registers = RegisterFile(generation.bars, shared={generation.mailbox.sram_bar})
        self.firmware: Firmware | None = None
        self._trace = trace
        self._faults = faults
        self._timers = timers
        self._delay = delay
        # Delays must be repeatable, not secret.
        self._random = random.Random(seed)  # noqa: S311
        self._memory = GuestMemory()
        self._interrupts: Interrupts | None = None
        self._channels: dict[int, Channel] = {}
        self._psp: Psp | None = None
        self._smu: Smu | None = None
        self._known: dict[Register, Psp | Smu] = {}
        if generation.psp is not None:
            self._psp = Psp(generation.psp, self.registers, faults, trace, start=self._start, stop=self._stop)
            self._know(self._psp, generation.psp)
        if generation.smu is not None:
            self._smu = Smu(generation.smu, self.registers, faults, trace, power_off=self._stop)
            self._know(self._smu, generation.smu)
        self._power_on()

    def attach(self, memory: GuestMemory, interrupts: Interrupts) -> None:
        """A client came: its memory and interrupts are the device's from now on."""
        self._memory = memory
        self._interrupts = interrupts
        self.registers.renew()
        self._power_on()

    def detach(self) -> None:
        """The client left."""
        self._interrupts = None
        self._memory = GuestMemory()
        self._power_on()

    def reset(self) -> None:
        """Function-level reset."""
        self._trace.event("reset")
        self._power_on()

    def region_size(self, index: int) -> int:
        """Bytes of a region, 0 where there is none."""
        return CONFIG_SIZE if index == REGION_CONFIG else self.generation.bars.get(index, 0)

    def region_file(self, index: int) -> tuple[int, int] | None:
        """A descriptor of a region's memory, still owned here, and how many bytes from its start on may be
        accessed without a message; None when each access has to come here."""
        file = None if index == REGION_CONFIG else self.registers.file(index)
        if file is None:
            return None
        return file, self.generation.doorbell_offset or self.generation.bars[index]

    def read(self, region: int, offset: int, count: int) -> bytes:
        """Read within a region; the caller checked the bounds."""
        if region == REGION_CONFIG:
            return self.config.read(offset, count)
        for place in self._register_places(region, offset, count, "read"):
            self._check_known(region, place, "read")
        return self.registers.read(region, offset, count)

    def write(self, region: int, offset: int, data: bytes) -> None:
        """Write within a region; the caller checked the bounds."""
        if region == REGION_CONFIG:
            self.config.write(offset, data)
            return
        places = self._register_places(region, offset, len(data), "write")
        if not places:
            self.registers.write(region, offset, data)
            self._doorbell_written(region, offset)
            return
        for place in places:
            part = data[place - offset : place - offset + 4]
            self.registers.write(region, place, part)
            self._written(region, place, int.from_bytes(part, "little"))

    # --- registers

    def _know(self, owner: Psp | Smu, places: object) -> None:
        for value in vars(places).values():
            if isinstance(value, Register):
                self._known[value] = owner

    def _register_places(self, bar: int, offset: int, count: int, access: str) -> range:
        """The registers an access touches; none where the BAR is plain memory."""
        if bar in (self.generation.mailbox.sram_bar, self.generation.msix_bar):
            return range(0)
        if offset % 4 or count % 4:
            self._trace.gap("register-width", bar=bar, offset=offset, access=access, size=count)
            return range(0)
        return range(offset, offset + count, 4)

    def _written(self, bar: int, offset: int, value: int) -> None:
        register = Register(bar, offset)
        owner = self._known.get(register)
        if owner is not None:
            owner.written(register, value)
        elif self._mailbox_slot(bar, offset) is None:
            self._check_known(bar, offset, "write")
        else:
            self._mailbox_written(bar, offset)

    def _mailbox_written(self, bar: int, offset: int) -> None:
        slot = self._mailbox_slot(bar, offset)
        channel = None if slot is None else self._channels.get(slot)
        if channel is None:
            return
        register = channel.owns(bar, offset)
        if register == X2I_TAIL and self.firmware is not None:
            self.firmware.serve(channel)
        elif register == I2X_HEAD and not channel.dead:
            channel.host_read()

    def _doorbell_written(self, bar: int, offset: int) -> None:
        first = self.generation.doorbell_offset
        if first is None or bar != self.generation.mailbox.sram_bar or offset < first:
            return
        if self.firmware is not None:
            self.firmware.doorbell((offset - first) // DOORBELL_PAGE)

    def _mailbox_slot(self, bar: int, offset: int) -> int | None:
        layout = self.generation.mailbox
        slot, place = divmod(offset - layout.register_offset, REGISTER_STRIDE)
        if bar != layout.register_bar or slot not in layout.slots or place > IRQ_STATUS:
            return None
        return slot

    def _check_known(self, bar: int, offset: int, access: str) -> None:
        if Register(bar, offset) not in self._known and self._mailbox_slot(bar, offset) is None:
            self._trace.gap("unknown-register", bar=bar, offset=offset, access=access)

    # --- life of the device and its firmware

    def _power_on(self) -> None:
        self._stop()
        self._timers.clear()
        self.registers.clear()
        self.config.reset()
        for part in (self._psp, self._smu):
            if part is not None:
                part.reset()
        if self.generation.psp is None:
            self._boot()  # nobody starts this firmware: another function's driver did

    def _start(self) -> None:
        if self._faults.strike("firmware-not-alive"):
            return
        slow = self._faults.strike("slow-boot")
        if slow:
            self._timers.call_at(self._timers.clock() + slow.number("ms") / 1000, self._boot)
        else:
            self._boot()

    def _stop(self) -> None:
        if self.firmware is not None:
            self.firmware.stop()
            self.firmware = None
        self._channels.clear()

    def _boot(self) -> None:
        self._stop()
        generation, layout = self.generation, self.generation.mailbox
        firmware = _FIRMWARE[generation.family](self._surroundings())
        channel = self._open_channel(layout.slots[0], MANAGEMENT_VECTOR)
        self.firmware = firmware
        protocol, magic = generation.protocol, CHANNEL_MAGIC
        unsupported = self._faults.strike("unsupported-protocol")
        if unsupported:
            protocol = parse_protocol(unsupported.text("protocol"))
        bad = self._faults.strike("bad-magic")
        if bad:
            magic = bad.integer("magic")
        places = channel.addresses
        rings = (
            *(places.x2i_tail, places.x2i_head, places.x2i_ring, places.ring_size),
            *(places.i2x_tail, places.i2x_head, places.i2x_ring, places.ring_size),
        )
        if layout.alive_offset is None:
            description = struct.pack("<12I", 1, *protocol, *rings, channel.vector)
        else:
            description = struct.pack("<16I", *rings, magic, channel.vector, *protocol, 0, 0, 0, 0)
        self.registers.write(layout.sram_bar, layout.info_offset, description)
        if layout.alive_offset is not None:
            pointer = layout.sram_base + layout.info_offset
            self.registers.set_word(layout.sram_bar, layout.alive_offset, pointer)
        self._wait_mode(False)  # noqa: FBT003 - the callback's only argument
        self._trace.event("boot", protocol=f"{protocol[0]}.{protocol[1]}", generation=generation.name)

    def _surroundings(self) -> Surroundings:
        return Surroundings(
            generation=self.generation,
            memory=self._memory,
            trace=self._trace,
            faults=self._faults,
            timers=self._timers,
            random=self._random,
            delay=self._delay,
            wait_mode=self._wait_mode,
            open_channel=self._open_channel,
            close_channel=self._close_channel,
            interrupt=self._interrupt,
        )

    def _open_channel(self, slot: int, vector: int) -> Channel:
        channel = Channel(slot, vector, self.generation.mailbox, self.registers, self._interrupt)
        self._channels[slot] = channel
        return channel

    def _close_channel(self, channel: Channel) -> None:
        channel.dead = True
        self._channels.pop(channel.slot, None)

    def _wait_mode(self, waiting: bool) -> None:
        if self._psp is not None:
            self._psp.wait_mode(waiting=waiting)

    def _interrupt(self, vector: int) -> None:
        wired = self._interrupts is not None and self._interrupts.trigger(vector)
        self._trace.event("irq", vector=vector, wired=wired)
