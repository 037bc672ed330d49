"""The bootstrap step: a command of the kernelspec's author, run once in each volume."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import Event
from typing import ClassVar, Literal

from provisioner.core.errors import ConfigError, HydrationFailed
from provisioner.core.progress import StepProgress
from provisioner.hydration.hooks.process import StepHooks
from provisioner.hydration.hooks.variables import hook_variables
from provisioner.hydration.records import digest, digest_file, digest_text
from provisioner.hydration.step import Launch, Place

_SCRIPT_LIMIT = 1 << 20  # bytes; what is larger is a program, not a script
_RUNS_A_SCRIPT = ("sh", "bash", "dash", "zsh", "ksh", "fish", "python", "python3", "perl")


@dataclass(frozen=True)
class BootstrapCommand:
    """Runs a command in the volume, once per volume and again when it changes.

    The script that it names (as the program, or as first argument of a shell or of Python) is part of the command:
    the command runs again when the script's content changes. Other files are not: the command may have made them,
    and a user's edit of them must not make it run again.

    A command that failed or was cancelled counts as not run, so it should be safe to run twice.

    Parameters
    ----------
    command
        The argument list. A name is looked up on the hydrated PATH, a relative path starts at the volume.
    timeout
        How long it may take; None for no limit.
    """

    name: ClassVar[str] = "bootstrap"
    lasts: ClassVar[Literal[True]] = True  # no command undoes the work of another one

    command: tuple[str, ...]
    timeout: timedelta | None = None

    def __post_init__(self) -> None:
        if not self.command or not self.command[0] or any("\0" in word for word in self.command):
            raise ConfigError(
                "bootstrap_command needs at least a program's name, without NUL characters: "
                'write it as a list like ["./setup.sh", "--quick"]'
            )

    def inputs(self, place: Place, launch: Launch) -> Mapping[str, str]:
        """Return the digests of the command and of its script."""
        inputs = {"bootstrap_command": digest_text(json.dumps(self.command))}
        if script := self._script(place.volume):
            inputs[str(script)] = digest_file(script)
        return inputs

    def key(self, place: Place, launch: Launch) -> str:
        """Digest the command and its script."""
        return digest(self.inputs(place, launch))

    def intact(self, place: Place, launch: Launch) -> bool:
        """Return True: the effect of a command cannot be inspected; only the journal knows that it ran."""
        return True

    def hydrate(self, place: Place, launch: Launch, progress: StepProgress, cancel: Event) -> None:
        """Run the command. It is the only step that is not all or nothing: half a command may have effects."""
        hooks = StepHooks(self.name, place, progress, cancel)
        hooks.report(f"running {self.command[0]}")
        ended = hooks.run(self.command, hook_variables(launch), timeout=self.timeout)
        if ended.code != 0:
            raise HydrationFailed(
                f"the bootstrap command {self.command[0]!r} {ended.how}: "
                "see its output below and correct it",
                ended.tail,
            )

    def environment(self, place: Place, launch: Launch) -> Launch:
        """Return the launch unchanged."""
        return launch

    def _script(self, volume: Path) -> Path | None:
        program, *arguments = self.command
        if Path(program).name in _RUNS_A_SCRIPT and arguments and arguments[0][:1] != "-":
            path = volume / arguments[0]
        elif "/" in program:
            path = volume / program
        else:
            return None
        with contextlib.suppress(OSError):
            return path if path.is_file() and path.stat().st_size <= _SCRIPT_LIMIT else None
        return None
