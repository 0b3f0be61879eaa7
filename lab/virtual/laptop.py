"""A booted guest as its owner's laptop: reached by ssh as one of its users, judged as it runs.

What a person does with a machine of their own (`xdnawatch doctor me@minipc`, `xdnawatch run --machine
me@minipc`) can so be tried on a real kernel: same client, same login, same rules as for hardware, only that
the NPU behind it is simulated, and says so.
"""

from __future__ import annotations

from lab.machine import Session
from lab.physical.ssh import SshMachine
from lab.virtual.machine import PATIENCE, VirtualSession

USERS = ("root", "user", "outsider")  # lab.virtual.guest: root, a member of render, and one who is not


class GuestLaptop(SshMachine):
    """The guest behind ``session``, as ``user``. It lives as long as the session that it borrows."""

    simulated = True

    def __init__(self, session: Session, user: str = "root") -> None:
        if not isinstance(session, VirtualSession):
            raise TypeError("only a virtual machine's guest can be borrowed")
        super().__init__(f"laptop-{user}", f"{user}@guest", config=session.ssh_config)
        self._options += PATIENCE
