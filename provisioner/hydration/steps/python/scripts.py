"""The scripts that installers put into `bin`: each names its interpreter by an absolute path.

After the volume has moved, that path does not exist, or belongs to the volume that this one is a copy of.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from pathlib import Path

from provisioner.system.files import replace_file

# The second form is for paths that are too long or contain spaces: to `sh` a command, to Python a string.
_HEADS = (
    re.compile(rb"#!(?P<python>/\S*/bin/python[\w.]*)(?P<options>[ \t][^\n]*)?\n"),
    re.compile(
        rb"#!/bin/sh\n'''exec' (?P<quote>[\"']?)(?P<python>/[^\n]*/bin/python[\w.]*)(?P=quote)"
        rb"(?P<options>(?: -[^\n \"]*)*) \"\$0\" \"\$@\"\n' '''\n"
    ),
)
_HEAD_LIMIT = 127  # bytes of a `#!` line that every kernel reads; Linux before 5.1 cut it there
_LONGEST = 4 << 10  # bytes within which a head ends


def correct_scripts(directory: Path, environment: Path, before: Path | None = None) -> None:
    """Make scripts that name a former path of their environment name its present one.

    Each script is replaced atomically; the function may be called again after a crash.

    Parameters
    ----------
    environment
        The path that the scripts shall name: `directory` itself, or where that will be moved.
    before
        The former path. None if it is not known: it is then any path that ends like `environment`, whose last
        two names move along with the volume.
    """
    here = os.fsencode(environment / "bin")
    end = b"/" + os.fsencode(Path(*environment.parts[-2:], "bin"))
    for script in sorted((directory / "bin").iterdir()):
        status = script.lstat()
        if not stat.S_ISREG(status.st_mode):
            continue
        with script.open("rb") as file:
            start = file.read(_LONGEST)
        match = next((match for head in _HEADS if (match := head.match(start))), None)
        if match is None:
            continue
        found, name = os.path.split(match["python"])
        is_former = found.endswith(end) if before is None else found == os.fsencode(before / "bin")
        if is_former and found != here:
            head = _head(here + b"/" + name, match["options"] or b"")
            content = head + script.read_bytes()[match.end() :]
            replace_file(script, content, stat.S_IMODE(status.st_mode))


def _head(python: bytes, options: bytes) -> bytes:
    line = b"#!%s%s\n" % (python, options)
    quoted = os.fsencode(shlex.quote(os.fsdecode(python)))
    if len(line) <= _HEAD_LIMIT and quoted == python:
        return line
    return b"#!/bin/sh\n'''exec' %s%s \"$0\" \"$@\"\n' '''\n" % (quoted, options)
