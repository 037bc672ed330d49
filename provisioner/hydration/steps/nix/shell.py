"""The environment that Nix describes: read from its output, stored in a record, applied to a launch."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from provisioner.hydration.step import Launch
from provisioner.hydration.steps.python.interpreter import find_python, is_left_open

# Variables of Nix's builder that no kernel should get: the builder's directories and limits, its shell
# (nologin), its certificates (/no-cert-file.crt), and what bash sets for itself.
_DROPPED = frozenset(
    {
        "BASHOPTS", "BASH_ENV", "ENV", "HOME", "IFS", "NIX_BUILD_TOP", "NIX_ENFORCE_PURITY",
        "NIX_LOG_FD", "NIX_REMOTE", "OLDPWD", "PPID", "PS4", "PWD", "SHELL", "SHELLOPTS", "SHLVL",
        "SSL_CERT_FILE", "TEMP", "TEMPDIR", "TERM", "TMP", "TMPDIR", "TZ", "UID", "_",
        "builder", "dontAddDisableDepTrack", "name", "out", "outputs", "shellHook", "stdenv", "system",
    }
)  # fmt: skip
_NO_CERTIFICATES = "/no-cert-file.crt"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Prepended to the launch's value, never replacing it.
_JOINED = ("PATH", "XDG_DATA_DIRS", "JUPYTER_PATH")


@dataclass(frozen=True)
class ShellEnvironment:
    """Variables to set, and the directories to prepend to each search path (`_JOINED`)."""

    variables: Mapping[str, str] = field(default_factory=dict)
    directories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def apply(self, launch: Launch) -> Launch:
        """Return a launch inside this environment, with the program that the environment brings."""
        env = {**launch.env, **self.variables}
        for name, first in self.directories.items():
            env[name] = ":".join([*first, *filter(None, [launch.env.get(name)])])
        program = self._program(launch.argv[0], env.get("PATH", os.defpath))
        if program != launch.argv[0]:
            # They belong to the interpreter that has just been replaced.
            for name in {"PYTHONHOME", "VIRTUAL_ENV"} - self.variables.keys():
                env.pop(name, None)
        return replace(launch, argv=(program, *launch.argv[1:]), env=env)

    def _program(self, argv0: str, path: str) -> str:
        own = ":".join(self.directories.get("PATH", ()))
        if own and is_left_open(argv0) and (python := find_python(own)):
            return python
        return argv0 if os.sep in argv0 else shutil.which(argv0, path=path) or argv0

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ShellEnvironment:
        """Return the environment that a record in JSON holds; raises KeyError or TypeError for anything else."""
        variables = {str(k): str(v) for k, v in dict(record["variables"]).items()}
        directories = {str(k): tuple(map(str, v)) for k, v in dict(record["directories"]).items()}
        return cls(variables, directories)


def read_shell(text: bytes) -> tuple[ShellEnvironment, bool]:
    """Read what `nix print-dev-env --json` prints: the environment before any `shellHook`, and whether there is one.

    Raises ValueError, KeyError, TypeError or AttributeError for any other text.
    """
    variables: dict[str, Any] = json.loads(text)["variables"]
    exported = {
        name: variable["value"]
        for name, variable in variables.items()
        if variable["type"] == "exported"
    }
    hook = variables.get("shellHook", {}).get("value", "")
    return _environment(exported, {}), bool(hook.strip())


def read_hooked(before: Mapping[str, str], after: bytes) -> ShellEnvironment:
    """Read what `env -0` prints after a `shellHook`, without the variables that were set before."""
    pairs = (line.partition("=") for line in after.decode(errors="surrogateescape").split("\0"))
    return _environment({name: value for name, _, value in pairs if name}, before)


def packages(path: Path) -> ShellEnvironment:
    """Return the environment of a package or a profile: its `bin` and its `share`."""
    found = {"PATH": path / "bin", "XDG_DATA_DIRS": path / "share"}
    found["JUPYTER_PATH"] = path / "share/jupyter"
    return ShellEnvironment({}, {name: (str(p),) for name, p in found.items() if p.is_dir()})


def _environment(after: Mapping[str, str], before: Mapping[str, str]) -> ShellEnvironment:
    return ShellEnvironment(
        {
            name: value
            for name, value in after.items()
            if _NAME.fullmatch(name)
            and name not in _DROPPED
            and name not in _JOINED
            and value != _NO_CERTIFICATES
            and before.get(name) != value
        },
        {
            name: _first(after[name], before.get(name, ""))
            for name in _JOINED
            if after.get(name) and after[name] != before.get(name)
        },
    )


def _first(after: str, before: str) -> tuple[str, ...]:
    """Return the directories of a search path without those it had before."""
    own = after.removesuffix(before).split(":") if before else after.split(":")
    if before and own == after.split(":"):
        # The hook appended something, so only the order can be kept.
        own = [directory for directory in own if directory not in before.split(":")]
    return tuple(dict.fromkeys(filter(None, own)))
