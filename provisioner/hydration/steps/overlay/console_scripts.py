"""The programs that installers put into `bin`: they name their interpreter by its absolute path.

Once the volume has moved, that path leads nowhere, or worse: into the volume that this one is a copy of.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
from pathlib import Path

from provisioner.system.files import replace_file

# The second form is for paths that are too long, or have spaces: to `sh` a command, to Python a string.
_HEADS = (
    re.compile(rb"#!(?P<python>/\S*/bin/python[\w.]*)(?P<options>[ \t][^\n]*)?\n"),
    re.compile(
        rb"#!/bin/sh\n'''exec' (?P<quote>[\"']?)(?P<python>/[^\n]*/bin/python[\w.]*)(?P=quote)"
        rb"(?P<options>(?: -[^\n \"]*)*) \"\$0\" \"\$@\"\n' '''\n"
    ),
)
_HEAD_LIMIT = 127  # bytes of a `#!` line that every kernel reads; Linux before 5.1 cut it there
_LONGEST = 4 << 10  # bytes in which a head ends


def bring_home(environment: Path) -> None:
    """Have the scripts in an environment's `bin` that name its former place name this one.

    A former place is known by its end, which moves along: the names of the environment's directory and of
    the one above. Each script is replaced whole; it can be called again after a crash.
    """
    end = os.fsencode(Path(*environment.parts[-2:], "bin"))
    here = os.fsencode(environment / "bin")
    for script in sorted((environment / "bin").iterdir()):
        status = script.lstat()
        if not stat.S_ISREG(status.st_mode):
            continue
        with script.open("rb") as file:
            start = file.read(_LONGEST)
        match = next((match for head in _HEADS if (match := head.match(start))), None)
        if match is None:
            continue
        directory, name = os.path.split(match["python"])
        if directory != here and directory.endswith(b"/" + end):
            content = (
                _head(here + b"/" + name, match["options"] or b"")
                + script.read_bytes()[match.end() :]
            )
            replace_file(script, content, stat.S_IMODE(status.st_mode))


def _head(python: bytes, options: bytes) -> bytes:
    line = b"#!%s%s\n" % (python, options)
    quoted = os.fsencode(shlex.quote(os.fsdecode(python)))
    if len(line) <= _HEAD_LIMIT and quoted == python:
        return line
    return b"#!/bin/sh\n'''exec' %s%s \"$0\" \"$@\"\n' '''\n" % (quoted, options)
