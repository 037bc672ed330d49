"""Logins in addresses (`https://user:password@host/`): kept out of messages, logs and hooks."""

from __future__ import annotations

import re

# What stands before the last @ ahead of the path; or, after a colon that no port follows, a password that nobody has
# percent-encoded, slashes and all.
_LOGIN = re.compile(r"://(?:[^/?#\s]+|[^/?#\s:@]*:(?!\d+(?:[/?#]|$))\S*)@")

_QUERIED = re.compile(
    r"([?&][^=&#\s]*(?:token|secret|passw|credential|key|sig|auth)[^=&#\s]*=)[^&#\s]+",
    re.IGNORECASE,
)


def has_login(text: str) -> bool:
    """Whether there is an address with a login in a text."""
    return _LOGIN.search(text) is not None


def without_logins(text: str) -> str:
    """Return a text as it may be shown: what stands before the @ of an address is left out."""
    return _QUERIED.sub(r"\1…", _LOGIN.sub("://…@", text))
