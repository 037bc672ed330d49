"""The launch that is hydrated, and what the launcher made of it, brought together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from provisioner.hydration.step import Launch


def kernel_within(declared: Launch, prepared: Mapping[str, Any]) -> Launch:
    """Return the kernel's own launch in what a launcher prepared, without a program that it runs under (`srun`)."""
    command, program = tuple(prepared["cmd"]), declared.argv[:1]
    begin = command.index(program[0]) if program and program[0] in command else 0
    return Launch(command[begin:], prepared["env"])


def hydrated_command(
    launch: Launch, hydrated: Launch, prepared: Sequence[str]
) -> tuple[str, ...] | None:
    """Return the launcher's command line with the kernel's launch as hydration left it.

    Parameters
    ----------
    launch, hydrated
        The launch before and after hydration.
    prepared
        The launcher's command line, which ends with that launch. Its connection file may differ: it has a name only
        once the launcher has prepared.

    Returns
    -------
    tuple or None
        None where a step has changed the arguments of a launch whose connection file had no name yet.
    """
    begin = len(prepared) - len(launch.argv)
    if tuple(prepared[begin:]) == launch.argv:
        return (*prepared[:begin], *hydrated.argv)
    if hydrated.argv[1:] == launch.argv[1:]:
        return (*hydrated.argv[:1], *prepared[1:])
    return None
