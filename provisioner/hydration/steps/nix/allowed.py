"""May a notebook ask for this Nix reference? The administrator's `allowed_nix_profiles` answers."""

from __future__ import annotations

from collections.abc import Iterable


def allows(allowed_nix_profiles: Iterable[str], reference: str) -> bool:
    """Whether a list of the administrator's covers a reference from a notebook.

    An entry is a reference, or its beginning followed by `*`. What follows a beginning may neither climb
    (`..`, plain or percent-encoded) nor carry a query: `github:us/repo?host=elsewhere` fetches from elsewhere.
    Symbolic links are not looked at; give links that users can change no beginning to live under.
    """
    return any(_covers(entry, reference) for entry in allowed_nix_profiles)


def _covers(entry: str, reference: str) -> bool:
    if not entry.endswith("*"):
        return reference == entry
    beginning = entry[:-1]
    rest = reference.removeprefix(beginning)
    if not beginning or not reference.startswith(beginning) or not reference.isprintable():
        return False
    return ".." not in rest and not set("%?") & set(rest)
