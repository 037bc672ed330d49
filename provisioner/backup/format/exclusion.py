"""Decides which files a backup leaves out: by globs, and by CACHEDIR.TAG files that mark caches."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from provisioner.core.errors import ConfigError

CACHE_TAG = b"CACHEDIR.TAG"
# The signature that the Cache Directory Tagging Specification (bford.info/cachedir) demands.
_CACHE_SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"
# A set of characters without its brackets, or one character.
_TOKEN = re.compile(r"\[(.[^]]*)\]|.", re.DOTALL)


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
        If a glob is empty, negated, malformed, or leads out of the volume.
    """

    def __init__(self, globs: Iterable[str]) -> None:
        patterns = [_translate(glob) for glob in globs]
        try:
            self._pattern = re.compile("|".join(patterns), re.DOTALL) if patterns else None
        except re.error as error:
            raise ConfigError(
                f"backup_exclude has a malformed set of characters ({error.msg}); use sets such as '[a-z]'"
            ) from error

    def __bool__(self) -> bool:
        return self._pattern is not None

    def match(self, path: str, *, directory: bool) -> bool:
        """Return whether a path, relative to the volume and without a final ``/``, is left out."""
        return bool(self._pattern and self._pattern.fullmatch(path + "/" if directory else path))


def _translate(glob: str) -> str:
    body = glob.rstrip("/")
    parts = body.lstrip("/").split("/")
    if not body or glob.startswith("!") or any(part in {"", ".", ".."} for part in parts):
        raise ConfigError(
            f"backup_exclude has {glob!r}, which is empty, negated or leads out of the volume;"
            " use globs such as '*.tmp', 'build/' or 'data/**/raw'"
        )
    start = "" if "/" in body else "(?:.*/)?"
    above = "".join(
        "(?:[^/]+/)*" if part == "**" else _TOKEN.sub(_translate_token, part) + "/"
        for part in parts[:-1]
    )
    last = ".+" if parts[-1] == "**" else _TOKEN.sub(_translate_token, parts[-1])
    return f"(?:{start}{above}{last}{'/' if glob.endswith('/') else '/?'})"


def _translate_token(token: re.Match[str]) -> str:
    if token[1]:
        chosen = token[1].replace("\\", r"\\").replace("[", r"\[")
        return f"(?!/)[{'^' + chosen[1:] if chosen[0] in '!^' else chosen}]"
    return {"*": "[^/]*", "?": "[^/]"}.get(token[0]) or re.escape(token[0])
