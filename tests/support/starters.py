"""Who starts processes in turn."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta

from provisioner.kernel.turn import Turns

BUSY = "while True: pass"
NEVER = timedelta(days=1)
"""After so long a turn, or the patience of who waits for one, is not seen to end."""


class Starter:
    """Starts processes in turn, each when it is its turn, and remembers the order."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.started: list[str] = []
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    async def start(
        self, name: str, *command: str, look: Callable[[], object] = lambda: None
    ) -> None:
        async with self.turns.turn(look) as turn:
            self.started.append(name)
            process = subprocess.Popen(command or [sys.executable, "-c", BUSY])
            self.processes[name] = process
            turn.launched(process.pid)

    def end(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def end_all(self) -> None:
        for name in self.processes:
            self.end(name)
