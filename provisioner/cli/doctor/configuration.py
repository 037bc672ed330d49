"""Where the settings come from, and whether they can be read."""

from __future__ import annotations

import os
from collections.abc import Iterator

from traitlets.config import Config

from provisioner.cli.doctor.finding import Finding, Level
from provisioner.core.errors import ConfigError
from provisioner.settings.pool import ROOT_VARIABLE, VolumePool, load_settings
from provisioner.settings.sources import FILE_NAME, file_origins


def read_settings(given: Config | None) -> tuple[VolumePool | None, list[Finding]]:
    """Return the settings (None if they cannot be read) and the findings about them."""
    try:
        settings = load_settings(given)
        return settings, list(_check(settings))
    except ConfigError as error:
        return None, [Finding(Level.BAD, "settings", str(error))]
    except OSError as error:
        message = f"{error.filename} cannot be read ({error.strerror})"
        return None, [Finding(Level.BAD, "settings", message, "make it readable for you")]


def _check(settings: VolumePool) -> Iterator[Finding]:
    files = ", ".join(origin.label for origin in file_origins())
    message = f"read from {files}" if files else f"all defaults (no {FILE_NAME}.py or .json found)"
    yield Finding(Level.OK, "settings", message)
    if root := os.environ.get(ROOT_VARIABLE):
        yield Finding(Level.INFO, "settings", f"${ROOT_VARIABLE} sets the root to {root}")
    if not settings.enabled:
        yield Finding(
            Level.WARN,
            "settings",
            "VolumePool.enabled is False, so kernels that need a volume do not start",
            "set it to True",
        )
