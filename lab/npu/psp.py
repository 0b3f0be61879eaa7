"""The secure processor's handshake: validate, start and release the firmware (facts section 5.4).

The driver writes the command and its arguments, then strikes the interrupt register and polls the status
word until bit 31 says "ready". The image's address is a physical one, which a device behind an IOMMU cannot
reach here, so the image is not looked at: any file is accepted, as the facts measured.
"""

from __future__ import annotations

from collections.abc import Callable

from lab.npu.faults import FaultPlan
from lab.npu.generations import PspRegisters, Register
from lab.npu.registers import RegisterFile
from lab.npu.trace import Trace

READY = 0x80000000
VALIDATE, START, RELEASE, VALIDATE_CERTIFICATE = 1, 2, 3, 4
COMMANDS = {VALIDATE: "VALIDATE", START: "START", RELEASE: "RELEASE_TMR"}
UNKNOWN_COMMAND = 0x100  # any non-zero answer is an error to the driver


class Psp:
    """``start`` boots the firmware, ``stop`` ends it."""

    def __init__(
        self,
        places: PspRegisters,
        registers: RegisterFile,
        faults: FaultPlan,
        trace: Trace,
        *,
        start: Callable[[], None],
        stop: Callable[[], None],
    ) -> None:
        self._places = places
        self._registers = registers
        self._faults = faults
        self._trace = trace
        self._start = start
        self._stop = stop

    def reset(self) -> None:
        """Idle and ready, as after power-on."""
        self._registers.set(self._places.status, READY)

    def written(self, register: Register, value: int) -> None:
        """The driver wrote one of our registers; only the interrupt does anything."""
        if register == self._places.interrupt and value:
            self._run()

    def wait_mode(self, *, waiting: bool) -> None:
        """Show whether the firmware sleeps: the driver polls bit 0 after SUSPEND."""
        self._registers.set(self._places.wait_mode, int(waiting))

    def _run(self) -> None:
        places, registers = self._places, self._registers
        number = registers.get(places.command)
        arguments = [registers.get(place) for place in (places.argument0, places.argument1, places.argument2)]
        name = COMMANDS.get(number)
        if name is None:
            self._trace.gap("psp-command", command=number)
        if self._faults.strike("psp-hang", subject=name):
            self._trace.event("psp", command=number, name=name, arguments=arguments, answer=None)
            registers.set(places.status, 0)
            return
        fault = self._faults.strike("psp-error", subject=name)
        answer = fault.integer("status") if fault else 0 if name else UNKNOWN_COMMAND
        self._trace.event("psp", command=number, name=name, arguments=arguments, answer=answer)
        registers.set(places.status, READY)
        registers.set(places.response, answer)
        if answer == 0 and number == START:
            self._start()
        elif answer == 0 and number == RELEASE:
            self._stop()
