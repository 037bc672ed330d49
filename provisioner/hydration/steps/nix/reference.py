"""What a `nix_profile` refers to, and whether a notebook may ask for it. Each of five kinds needs other commands."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from provisioner.core.errors import HydrationFailed

_LOCAL = re.compile(r"(path:|git\+file:(//)?)?(?P<path>[/.~][^?#]*)(?P<rest>.*)", re.DOTALL)
_DIRECTORY_IN_QUERY = re.compile(r"[?&]dir=([^&#]*)")


class Kind(Enum):
    """The kinds of references."""

    FLAKE = "a flake in a directory"
    REMOTE = "a flake from elsewhere"
    FILE = "a Nix expression"
    SHELL = "a development shell that Nix has recorded in its store"
    PACKAGES = "a package or a profile in the store"


@dataclass(frozen=True)
class Reference:
    """A reference and what it was found to be.

    Parameters
    ----------
    text
        The reference as it is passed to Nix.
    path
        The flake's directory, the expression's file, or the path in the store; None for a remote one.
    copied
        The directory that Nix copies whole, because a flake in it is outside version control; else None.
    """

    kind: Kind
    text: str
    path: Path | None = None
    copied: Path | None = None

    @property
    def directory(self) -> Path | None:
        """The directory that it lies in, from which the paths of watched files start; None for a remote one."""
        if self.path is None or self.kind is not Kind.FILE:
            return self.path
        return self.path.parent


def store_directory(env: Mapping[str, str]) -> Path:
    """Return the directory of the Nix store."""
    return Path(env.get("NIX_STORE_DIR") or env.get("NIX_STORE") or "/nix/store")


def classify(text: str, volume: Path, env: Mapping[str, str]) -> Reference:
    """Return what a reference is, judged by its form and by what exists at its path.

    A relative path starts at the volume; `env` has HOME for `~`, and the directory of the store. Raises HydrationFailed
    if it is no reference, or nothing usable exists at its path.
    """
    if not text or text.startswith("-") or not text.isprintable():
        raise HydrationFailed(
            f"nix_profile {text!r} is no reference (empty, an option or unprintable): "
            "name a flake, a shell.nix or a profile"
        )
    local = _LOCAL.fullmatch(text) or _LOCAL.fullmatch(f"./{text}" if text.endswith(".nix") else "")
    if local is None:
        return Reference(Kind.REMOTE, text)
    path = volume / _expand(local["path"], env)
    if not path.exists():
        raise HydrationFailed(
            f"nix_profile {text!r} names {path}, which does not exist: correct it or create that"
        )
    return _at(path, local["rest"], text, store_directory(env))


def allows(allowed_nix_profiles: Iterable[str], reference: str) -> bool:
    """Whether the administrator's list allows a reference from a notebook.

    An entry is a reference, or a beginning followed by `*`. What follows the beginning must neither climb (`..`,
    plain or percent-encoded) nor contain a query: `github:us/repo?host=elsewhere` fetches from elsewhere.
    Symbolic links are not resolved: do not allow a directory in which users can create links.
    """
    return any(_is_covered(reference, entry) for entry in allowed_nix_profiles)


def refuse_private_files(reference: Reference) -> None:
    """Raise HydrationFailed if Nix would copy a private file into its store with a flake, for everybody to read.

    The flake's own files may be private: under a umask of 077 all files are.
    """
    for directory, folders, names in os.walk(reference.copied) if reference.copied else ():
        folders[:] = [name for name in folders if name != ".git"]
        for path in (Path(directory, name) for name in names):
            mode = path.lstat().st_mode
            is_flake = path.suffix == ".nix" or path.name == "flake.lock"
            if stat.S_ISREG(mode) and not mode & 0o077 and not is_flake:
                raise HydrationFailed(
                    f"{path} is private (mode {stat.S_IMODE(mode):04o}), and Nix would copy it into its store for "
                    "everybody to read: move the flake into a directory of its own, or `git init` there and add only "
                    "what belongs to it"
                )


def _is_covered(reference: str, entry: str) -> bool:
    if not entry.endswith("*"):
        return reference == entry
    beginning = entry[:-1]
    rest = reference.removeprefix(beginning)
    if not beginning or not reference.startswith(beginning) or not reference.isprintable():
        return False
    return ".." not in rest and not set("%?") & set(rest)


def _at(path: Path, rest: str, text: str, store: Path) -> Reference:
    scheme = "git+file://" if text.startswith("git+file:") else "path:" * text.startswith("path:")
    real = path.resolve()
    stored = store.resolve() in real.parents
    if real.is_file():
        if stored and real.name.endswith("-env"):
            return Reference(Kind.SHELL, str(real), real)
        if real.name.endswith(".nix"):
            return Reference(Kind.FILE, str(path), path)
    if real.is_dir():
        subdirectory = _DIRECTORY_IN_QUERY.search(rest)
        flake = path / subdirectory[1] if subdirectory else path
        if (flake / "flake.nix").exists():
            copied = None if stored else _copied(path, scheme)
            return Reference(Kind.FLAKE, f"{scheme}{path}{rest}", flake, copied)
        for name in ("shell.nix", "default.nix"):
            if (path / name).is_file():
                return Reference(Kind.FILE, str(path / name), path / name)
        if stored:
            return Reference(Kind.PACKAGES, str(real), real)
    raise HydrationFailed(
        f"nix_profile {text!r} is no flake, no Nix expression and no profile: "
        f"put a flake.nix or a shell.nix into {path}, or name a path in {store}"
    )


def _copied(path: Path, scheme: str) -> Path | None:
    is_versioned = any((parent / ".git").exists() for parent in (path, *path.parents))
    return path if scheme == "path:" or (not scheme and not is_versioned) else None


def _expand(path: str, env: Mapping[str, str]) -> str:
    home = env.get("HOME", "")
    return home + path[1:] if home and path.split("/")[0] == "~" else os.path.normpath(path)
