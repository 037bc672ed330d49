"""Which session a kernel belongs to.

Pure: values in, values out. `provisioner.settings.notebook` reads what is on disk (a notebook's metadata, its real
path) and passes it in.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum

from provisioner.core.errors import BadSession

SESSION_VARIABLE = "JUPYTER_VOLUME_SESSION"
"""The session's name: read from the environment given for a kernel, and set in the kernel's environment."""

VOLUME_VARIABLE = "JUPYTER_VOLUME"
"""The path of the kernel's volume; set in the kernel's environment, never read as a request."""

NOTEBOOK_VARIABLE = "JUPYTER_VOLUME_NOTEBOOK"
"""The API path of the notebook with its drive, set by the server extension; not passed on to the kernel."""

SERVER_VARIABLE = "JPY_SESSION_NAME"
"""The notebook's path as jupyter_server sets it: absolute, but with contents drives collapsed."""

MAX_NAME_BYTES = 4096
"""The size of the longest session name, which is that of the longest path on Linux (PATH_MAX)."""

# Front ends that keep a notebook in a file of their own add an identifier that changes at every start.
_BACKING_SUFFIX = re.compile(
    r"-(?:jvsc-)?[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}[0-9a-z]*(?=\.ipynb$)"
)


# Control characters, line and paragraph separators, and lone surrogates, which no encoding can store. Other characters
# that cannot be printed (the joiners of emoji and of Persian, full-width spaces, new characters) occur in file names.
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
    """What is known of a kernel when it starts: its id, and the session that the caller named.

    `metadata` is `metadata.volume.session` of the notebook, of any JSON type. `notebook` is the notebook's canonical
    path, or `drive:path` for one that is not a local file.
    """

    kernel_id: str
    caller: str | None = None
    metadata: object = None
    notebook: str | None = None


def choose(clues: Clues) -> Session:
    """Return the session of a kernel: caller, notebook metadata, notebook path, kernel id; the first that applies.

    Raises `BadSession` if the name that applies cannot be used; a weaker clue is never taken in its place.
    """
    for name, origin, source in (
        (clues.caller, SESSION_VARIABLE, Source.CALLER),
        (clues.metadata, "metadata.volume.session", Source.METADATA),
        (clues.notebook, "the notebook's path", Source.NOTEBOOK),
    ):
        if name is not None:
            return Session(checked(name, origin), source)
    return Session(checked(f"kernel:{clues.kernel_id}", "the kernel's id"), Source.KERNEL)


def checked(name: object, origin: str) -> str:
    """Return `name` if it can name a session; raise `BadSession` with its origin if it cannot."""
    if not isinstance(name, str):
        fault = f" is of type {type(name).__name__}, not text; give a string or remove it."
    elif not name.strip():
        fault = " is empty; give it a name or remove it."
    elif (size := len(name.encode("utf-8", "surrogatepass"))) > MAX_NAME_BYTES:
        fault = (
            f" is {size} bytes long and begins {name[:40]!r}; use at most {MAX_NAME_BYTES} bytes."
        )
    elif any(unicodedata.category(character) in _UNUSABLE_CATEGORIES for character in name):
        fault = (
            f", {name[:80]!r}, has a character that no name may have "
            "(such as NUL, a line break or an undecodable byte); choose a name without it."
        )
    else:
        return name
    raise BadSession(f"The session named by {origin}{fault}")


def caller_session(env: Mapping[str, str], volume_names: Collection[str]) -> str | None:
    """Return the session that the caller named, unless the environment only inherited it from a surrounding kernel.

    A process that a kernel starts (papermill in a cell, say) inherits the name of that kernel's session. Taken as a
    request, the name could only lead to a refusal, since the kernel holds that volume. `volume_names` are the present
    and former names of that volume, if there is one: the notebook may have been renamed.
    """
    name = env.get(SESSION_VARIABLE)
    return None if name in volume_names else name


def server_path(env: Mapping[str, str], process_env: Mapping[str, str]) -> str | None:
    """Return the notebook's path as the server set it; None if it was inherited or is not a notebook's."""
    path = env.get(SERVER_VARIABLE)
    if not path:
        return None
    if VOLUME_VARIABLE in process_env and path == process_env.get(SERVER_VARIABLE):
        return None
    return path


def without_backing_suffix(path: str) -> str:
    """Return the path of the notebook that a front end's backing file stands for.

    VS Code names the session of `a.ipynb` on a remote server `a-jvsc-<uuid>.ipynb`, with a new uuid at each start.
    """
    return _BACKING_SUFFIX.sub("", path)
