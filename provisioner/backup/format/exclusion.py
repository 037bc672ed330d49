"""Decides which files a backup leaves out: by globs, and by CACHEDIR.TAG files that mark caches."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from provisioner.core.errors import ConfigError

CACHE_TAG = b"CACHEDIR.TAG"
# The signature that the Cache Directory Tagging Specification (bford.info/cachedir) demands.
_CACHE_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"


def is_cache(directory: int) -> bool:
    """Return whether the open directory holds a CACHEDIR.TAG with the signature of the specification."""
    try:
        tag = os.open(CACHE_TAG, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    except OSError:
        return False
    try:
        return os.read(tag, len(_CACHE_SIGNATURE)) == _CACHE_SIGNATURE
    except OSError:
        return False
    finally:
        os.close(tag)


class Exclusions:
    """Globs as in a ``.gitignore``, for paths relative to the volume.

    ``*``, ``?`` and ``[a-z]`` match within one name; ``**`` matches any number of directories. A glob without ``/``,
    except at its end, matches a name at any depth; any other glob starts at the volume's top. A glob that ends in
    ``/`` matches directories only. A directory that matches is left out with everything below it. Negation is not
    supported.

    Raises
    ------
    ConfigError
        If a glob is empty, negated, or leads out of the volume.
    """

    def __init__(self, globs: Iterable[str]) -> None:
        patterns = [_translate(glob) for glob in globs]
        self._pattern = re.compile("|".join(patterns), re.DOTALL) if patterns else None

    def __bool__(self) -> bool:
        return self._pattern is not None

    def match(self, path: str, *, directory: bool) -> bool:
        """Return whether a path, relative to the volume and without a final ``/``, is left out."""
        if self._pattern is None:
            return False
        return self._pattern.fullmatch(path + "/" if directory else path) is not None


def _translate(glob: str) -> str:
    body = glob.rstrip("/")
    parts = body.lstrip("/").split("/")
    if not body or glob.startswith("!") or any(part in {"", ".", ".."} for part in parts):
        raise ConfigError(
            f"backup_exclude has {glob!r}, which is empty, negated or leads out of the volume;"
            " use globs such as '*.tmp', 'build/' or 'data/**/raw'"
        )
    start = "" if "/" in body else "(?:.*/)?"
    end = "/" if glob.endswith("/") else "/?"
    return f"(?:{start}{_translate_parts(parts)}{end})"


def _translate_parts(parts: list[str]) -> str:
    pieces = []
    last = len(parts) - 1
    for index, part in enumerate(parts):
        if part == "**":
            pieces.append(".+" if index == last else "(?:[^/]+/)*")
        else:
            pieces.append(_translate_name(part) + ("" if index == last else "/"))
    return "".join(pieces)


def _translate_name(part: str) -> str:
    pieces, at = [], 0
    while at < len(part):
        char = part[at]
        at += 1
        if char == "*":
            pieces.append("[^/]*")
        elif char == "?":
            pieces.append("[^/]")
        elif char == "[" and (close := part.find("]", at + 1)) > 0:
            chosen = part[at:close].replace("\\", r"\\").replace("[", r"\[")
            pieces.append(f"(?!/)[{'^' + chosen[1:] if chosen[0] in '!^' else chosen}]")
            at = close + 1
        else:
            pieces.append(re.escape(char))
    return "".join(pieces)
