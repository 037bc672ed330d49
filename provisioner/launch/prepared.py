"""A launcher's prepared launch, taken into a volume's environment that was hydrated before."""

from __future__ import annotations

from provisioner.core.session import SESSION_VARIABLE
from provisioner.hydration.step import Launch


def carry_over(declared: Launch, hydrated: Launch, prepared: Launch) -> Launch | None:
    """Apply to `prepared` what hydration changed about `declared`.

    The launcher may have wrapped the command line (`srun python …`), added arguments, or built an environment of its
    own: all that stays.

    Parameters
    ----------
    declared
        The kernelspec's own launch.
    hydrated
        The declared launch within the volume's environment.
    prepared
        What the launcher made of the kernelspec.

    Returns
    -------
    Launch or None
        None where the launcher changed the same things, such as the interpreter or a variable: then only hydrating
        the prepared launch itself can tell what the two amount to.
    """
    program, new_program = declared.argv[:1], hydrated.argv[:1]
    argv = list(prepared.argv)
    if hydrated.argv != declared.argv:
        if hydrated.argv[1:] != declared.argv[1:] or not program or program[0] not in argv:
            return None
        argv[argv.index(program[0])] = new_program[0]
    env = dict(prepared.env)
    for name in declared.env.keys() | hydrated.env.keys():
        before, after = declared.env.get(name), hydrated.env.get(name)
        # The kernel needs its session's name even if the caller had set it and the launcher dropped it.
        if before == after and name != SESSION_VARIABLE:
            continue
        if env.get(name) != before:
            return None
        if after is None:
            env.pop(name, None)
        else:
            env[name] = after
    return Launch(tuple(argv), env, hydrated.added)
