"""Open files in which forked children have no part.

An OS lock belongs to the open file: a child that was forked meanwhile holds it for as long as it lives, and no
`close` of its parent changes that. So the child closes its copy.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from provisioner.system.forks import gate


class Descriptor:
    """An open file of this process alone, closed at the end of the block.

    Processes that are started (`subprocess`) have a part in it if they are given it, as in any open file.

    Parameters
    ----------
    opened
        Opens the file and returns its descriptor; may lock it. Brief: forks wait meanwhile.
    is_passed_on
        Whether it is for a process that this very thread starts. Python starts one by a fork like any other where it
        has to call something in the child (`preexec_fn`), and then that child keeps it.
    """

    def __init__(self, opened: Callable[[], int], *, is_passed_on: bool = False) -> None:
        self.number = -1
        """What the operating system calls it; -1 when it is closed."""
        self._keeper = threading.get_ident() if is_passed_on else None
        gate.join(self)
        with gate.inside(self):
            self.number = opened()

    def __enter__(self) -> int:
        return self.number

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; calling this twice is harmless."""
        with gate.inside(self):
            number, self.number = self.number, -1
            if number >= 0:
                os.close(number)

    def before_fork(self) -> None:
        """Go on: the child closes its copy."""

    def after_fork_in_child(self) -> None:
        """Close the copy."""
        if self._keeper != threading.get_ident():
            self.close()
