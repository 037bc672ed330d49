"""The stable codes of refusals and failures."""

from __future__ import annotations

import inspect

from provisioner.core import errors as module


def errors() -> str:
    """Return a table of the codes."""
    classes = [
        found
        for _, found in inspect.getmembers(module, inspect.isclass)
        if issubclass(found, module.VolumeError) and found is not module.VolumeError
    ]
    rows = [
        f"| `{found.code}` | {(found.__doc__ or '').splitlines()[0]} |"
        for found in sorted(classes, key=lambda found: found.code)
    ]
    return "\n".join(["| code | meaning |", "|---|---|", *rows])
