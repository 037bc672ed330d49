"""The sources of settings: our own configuration files on the Jupyter config path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from jupyter_core.paths import jupyter_config_path
from traitlets.config import Config
from traitlets.config.loader import JSONFileConfigLoader, PyFileConfigLoader

from provisioner.core.errors import ConfigError
from provisioner.settings.log import log

FILE_NAME = "jupyter_volumes_config"

SECTIONS = ("VolumePool", "VolumeProvisioner")
"""The sections of our own configuration files."""

_LIKENESS = 0.9
"""The similarity (`difflib`, 0 to 1) from which a name counts as a misspelt one of ours.

A typing error has 0.94 or more; SlurmProvisioner and VolumeProvisioner have 0.85."""


class Origin(NamedTuple):
    """One source of settings, with its name in messages."""

    label: str
    config: Config


def file_config() -> Config:
    """Return the merged configuration files, with all sections; the first directories on the path are the strongest."""
    merged = Config()
    for origin in file_origins():
        merged.merge(origin.config)
    return merged


def file_origins() -> Iterator[Origin]:
    """Yield the configuration files that exist, weakest first; `.json` is stronger than `.py`, as for all of Jupyter.

    Raises `ConfigError` if a file cannot be read or executed, or has a section that looks like a misspelt one of ours.
    """
    for directory in reversed(jupyter_config_path()):
        for loader, suffix in ((PyFileConfigLoader, ".py"), (JSONFileConfigLoader, ".json")):
            path = Path(directory, FILE_NAME + suffix)
            try:
                if not path.is_file():
                    continue
                origin = Origin(str(path), loader(path.name, path=directory).load_config())
            except (Exception, SystemExit) as error:  # a .py file may raise anything
                reason = f"{type(error).__name__}: {error}"
                raise ConfigError(f"{path} cannot be read ({reason}); correct it.") from error
            _check_sections(origin)
            yield origin


def _check_sections(origin: Origin) -> None:
    """Refuse a section whose name looks like a misspelt one of ours; warn of any other that is not ours.

    Jupyter ignores sections that it does not know. But a setting in a misspelt section must not be ignored silently.
    """
    known = {name.lower(): name for name in SECTIONS}
    for name, content in origin.config.items():
        if name in SECTIONS or content == {}:  # a .py file that only reads a section creates it
            continue
        if near := get_close_matches(name.lower(), known, 1, _LIKENESS):
            raise ConfigError(
                f"{origin.label}: {name} is not a section; did you mean {known[near[0]]}?"
            )
        _warn_of_section(origin.label, name)


@cache  # the files are read at each start of a kernel
def _warn_of_section(label: str, name: str) -> None:
    log.warning(
        "%s: %s is not read from this file, which is for %s; move it to the configuration of its application, such as "
        "jupyter_server_config.py.",
        label,
        name,
        " and ".join(SECTIONS),
    )


def section(origin: Origin, name: str) -> Mapping[str, Any]:
    """Return the settings that a source has for the class `name`; never creates the section.

    Raises `ConfigError` if the section is not a mapping.
    """
    found = origin.config.get(name, {})
    if not isinstance(found, Mapping):
        raise ConfigError(
            f"{origin.label}: {name} is {found!r}; it must be a mapping of settings to values."
        )
    return found
