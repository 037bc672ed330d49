"""Logins in addresses (`https://user:password@host/`): kept out of messages, logs and hooks."""

from __future__ import annotations

import re

# The text before the last @ ahead of the path; or, after a colon that no port follows, a password with slashes that
# were not percent-encoded.
_LOGIN = re.compile(r"://(?:[^/?#\s]+|[^/?#\s:@]*:(?!\d+(?:[/?#]|$))\S*)@")

_QUERIED = re.compile(
    r"([?&][^=&#\s]*(?:token|secret|passw|credential|key|sig|auth)[^=&#\s]*=)[^&#\s]+",
    re.IGNORECASE,
)


def without_logins(text: str) -> str:
    """Return a text that may be shown: without logins, and without secrets in the queries of addresses."""
    return _QUERIED.sub(r"\1…", _LOGIN.sub("://…@", text))
