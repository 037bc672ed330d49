"""Which session a kernel belongs to.

Pure: values in, values out. What lies on disk (a notebook's metadata, its real path) is read by
`provisioner.settings.notebook` and handed in.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum

from provisioner.core.errors import BadSession

SESSION_VARIABLE = "JUPYTER_VOLUME_SESSION"
"""Names the session: read from whoever starts a kernel, and set in the kernel's environment."""

VOLUME_VARIABLE = "JUPYTER_VOLUME"
"""The path of the kernel's volume; set in the kernel's environment, never read as a request."""

NOTEBOOK_VARIABLE = "JUPYTER_VOLUME_NOTEBOOK"
"""The API path of the notebook, drive included, as the server extension tells it; not passed on to the kernel."""

SERVER_VARIABLE = "JPY_SESSION_NAME"
"""The notebook's path as jupyter_server tells it: absolute, but with contents drives collapsed."""

MAX_NAME_BYTES = 4096
"""The longest session name; as long as the longest path of Linux (PATH_MAX)."""

# Front ends that back a notebook with a file of their own add an identifier that changes at every start.
_BACKING_SUFFIX = re.compile(
    r"-(?:jvsc-)?[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}[0-9a-z]*(?=\.ipynb$)"
)


# Control characters, line and paragraph separators, and halves of characters that no encoding can store. Whatever
# else cannot be printed (the joiners of emoji and of Persian, full-width spaces, new characters) is in real file names.
_UNUSABLE_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})


class Source(Enum):
    """Who named the session, strongest first."""

    CALLER = "caller"
    METADATA = "notebook metadata"
    NOTEBOOK = "notebook path"
    KERNEL = "kernel id"


@dataclass(frozen=True)
class Session:
    """The name under which a kernel asks for its files, and who chose it."""

    name: str
    source: Source


@dataclass(frozen=True)
class Clues:
    """All that is known of a kernel when it starts.

    Parameters
    ----------
    kernel_id
        The kernel's own id, always known.
    caller
        The session named by whoever starts the kernel.
    metadata
        `metadata.volume.session` of the notebook, of whatever type was found there.
    notebook
        The notebook's canonical path, or `drive:path` for one that is not a local file.
    """

    kernel_id: str
    caller: str | None = None
    metadata: object = None
    notebook: str | None = None


def choose(clues: Clues) -> Session:
    """Return the session of a kernel: caller, notebook metadata, notebook path, kernel id; the first that applies.

    Raises
    ------
    BadSession
        If the name that applies cannot be used; a weaker clue is never taken in its place.
    """
    if clues.caller is not None:
        return Session(checked(clues.caller, SESSION_VARIABLE), Source.CALLER)
    if clues.metadata is not None:
        return Session(checked(clues.metadata, "metadata.volume.session"), Source.METADATA)
    if clues.notebook is not None:
        return Session(checked(clues.notebook, "the notebook's path"), Source.NOTEBOOK)
    return Session(checked(f"kernel:{clues.kernel_id}", "the kernel's id"), Source.KERNEL)


def checked(name: object, origin: str) -> str:
    """Return `name` if it can name a session, else refuse it in one line that says where it came from."""
    if not isinstance(name, str):
        raise BadSession(
            f"The session named by {origin} is of type {type(name).__name__}, not text; "
            "give a string or remove it."
        )
    if not name.strip():
        raise BadSession(f"The session named by {origin} is empty; give it a name or remove it.")
    size = len(name.encode("utf-8", "surrogatepass"))
    if size > MAX_NAME_BYTES:
        raise BadSession(
            f"The session named by {origin} is {size} bytes long and begins {name[:40]!r}; "
            f"use at most {MAX_NAME_BYTES} bytes."
        )
    if any(unicodedata.category(character) in _UNUSABLE_CATEGORIES for character in name):
        raise BadSession(
            f"The session named by {origin}, {name[:80]!r}, has a character that no name may have "
            "(such as NUL, a line break or an undecodable byte); choose a name without it."
        )
    return name


def caller_session(env: Mapping[str, str], volume_names: Collection[str]) -> str | None:
    """Return the session that the caller named, unless it is only what a surrounding kernel left in the environment.

    A kernel's own environment names its volume. A process started in it (papermill in a cell, say) inherits the
    name without anybody having asked for it; taken as a request, it could only end in "already in use".

    Parameters
    ----------
    env
        The environment given for the kernel.
    volume_names
        The names, former ones too, of the volume that `env` lies in, if any: a notebook may have been renamed since.
    """
    name = env.get(SESSION_VARIABLE)
    return None if name in volume_names else name


def server_path(env: Mapping[str, str], process_env: Mapping[str, str]) -> str | None:
    """Return the notebook's path as the server told it, or None where it is inherited or of no notebook."""
    path = env.get(SERVER_VARIABLE)
    if not path:
        return None
    if VOLUME_VARIABLE in process_env and path == process_env.get(SERVER_VARIABLE):
        return None
    return path


def without_backing_suffix(path: str) -> str:
    """Return the path of the notebook a front end's backing file stands for.

    VS Code names the session of `a.ipynb` on a remote server `a-jvsc-<uuid>.ipynb`, with a new uuid at each start.
    """
    return _BACKING_SUFFIX.sub("", path)
