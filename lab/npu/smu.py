"""The power controller's handshake: power on and off, clocks and power levels (facts section 5.4).

What starts a command differs: npu1 by the interrupt register; from npu4 on by the command register in
drivers since June 2026 and by the interrupt register before (facts, module build, section 6 item 1). Both
are served: a command runs when it is written, and the interrupt that an older driver strikes afterwards
does not run it again.
"""

from __future__ import annotations

from collections.abc import Callable

from lab.npu.faults import FaultPlan
from lab.npu.generations import Register, SmuRegisters
from lab.npu.registers import RegisterFile
from lab.npu.trace import Trace

OK = 0x1
UNKNOWN_COMMAND = 0xFE
COMMANDS = {
    3: "POWER_ON",
    4: "POWER_OFF",
    5: "SET_MPNPU_CLOCK",
    6: "SET_H_CLOCK",
    7: "SET_SOFT_DPM",
    8: "SET_HARD_DPM",
}


class Smu:
    """Answers commands at once; ``power_off`` ends the firmware."""

    def __init__(
        self,
        places: SmuRegisters,
        registers: RegisterFile,
        faults: FaultPlan,
        trace: Trace,
        *,
        power_off: Callable[[], None],
    ) -> None:
        self._places = places
        self._registers = registers
        self._faults = faults
        self._trace = trace
        self._power_off = power_off
        self._served = False

    def reset(self) -> None:
        """As after power-on: no command has been served."""
        self._served = False

    def written(self, register: Register, value: int) -> None:
        """The driver wrote one of our registers."""
        places = self._places
        if register == places.command and places.command_triggers:
            self._run()
            self._served = True
        elif register == places.command:
            self._served = False
        elif register == places.interrupt and value and not (places.command_triggers and self._served):
            self._run()

    def _run(self) -> None:
        places, registers = self._places, self._registers
        number, argument = registers.get(places.command), registers.get(places.argument)
        name = COMMANDS.get(number)
        if name is None:
            self._trace.gap("smu-command", command=number)
        if self._faults.strike("smu-hang", subject=name):
            self._trace.event("smu", command=number, name=name, argument=argument, answer=None)
            return
        fault = self._faults.strike("smu-error", subject=name)
        answer = fault.integer("response") if fault else OK if name else UNKNOWN_COMMAND
        self._trace.event("smu", command=number, name=name, argument=argument, answer=answer)
        if answer == OK and name == "POWER_OFF":
            self._power_off()
        registers.set(places.output, argument)
        registers.set(places.response, answer)
