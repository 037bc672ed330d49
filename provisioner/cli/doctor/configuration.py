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
    """Return the settings, None if they cannot be read, and what was found."""
    try:
        settings = load_settings(given)
        return settings, [*_origins(), *_notable(settings)]
    except ConfigError as error:
        return None, [Finding(Level.BAD, "settings", str(error))]
    except OSError as error:
        said = f"{error.filename} cannot be read ({error.strerror})"
        return None, [Finding(Level.BAD, "settings", said, "make it readable for you")]


def _origins() -> Iterator[Finding]:
    files = ", ".join(origin.label for origin in file_origins())
    said = f"read from {files}" if files else f"all defaults (no {FILE_NAME}.py or .json found)"
    yield Finding(Level.OK, "settings", said)
    if root := os.environ.get(ROOT_VARIABLE):
        said = f"${ROOT_VARIABLE} sets the root to {root}"
        yield Finding(Level.INFO, "settings", said)


def _notable(settings: VolumePool) -> Iterator[Finding]:
    if not settings.enabled:
        yield Finding(
            Level.WARN,
            "settings",
            "VolumePool.enabled is False, so kernels that ask for a volume do not start",
            "set it to True",
        )
