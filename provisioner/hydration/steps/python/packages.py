"""The packages installed in an environment, and the arguments with which an installer brings each one back."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any


def site_packages(environment: Path) -> Path | None:
    """Return the directory of an environment's packages."""
    return next(iter(environment.glob("lib/python*/site-packages")), None)


def installed(environment: Path) -> dict[str, str]:
    """Return the version of each package by its normalized name, read from directory names only."""
    packages = site_packages(environment)
    stems = (path.stem for path in packages.glob("*.dist-info")) if packages else ()
    pairs = (stem.partition("-") for stem in stems)
    return {normalized(name): version for name, _, version in pairs}


def packages_to_install_again(root: Path) -> str:
    """Return the arguments for `pip install` that bring back the packages of the latest other Python version.

    Empty if no version had any. The old packages are not removed: if that Python comes back, they are used again.
    """
    for library in sorted((root / "lib").glob("python3.*"), key=_version, reverse=True):
        found = arguments(library / "site-packages").values()
        if wanted := sorted(shlex.join(words) for words in found):
            return " ".join(wanted)
    return ""


def arguments(packages: Path) -> dict[str, tuple[str, ...]]:
    """Return the arguments with which an installer brings back each package, by its normalized name.

    An argument names where the package came from if that is known, else its version. pip is left out, because
    every environment gets its own.
    """
    found = {d.metadata["Name"]: d for d in distributions(path=[str(packages)]) if d.metadata}
    return {normalized(n): _argument(n, d) for n, d in found.items() if n and n != "pip"}


def normalized(name: str) -> str:
    """Return a package's name in the form in which names are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _version(library: Path) -> int:
    return int(re.sub(r"\D", "", library.name.removeprefix("python3.")) or 0)


def _argument(name: str, distribution: Distribution) -> tuple[str, ...]:
    try:
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        if url := _address(origin):
            editable = origin.get("dir_info", {}).get("editable")
            return ("-e", url) if editable else (f"{name} @ {url}",)
    except (ValueError, AttributeError, KeyError, TypeError):
        pass  # a damaged record of its origin: fall back to name and version
    return (f"{name}=={distribution.version}",)


def _address(origin: Mapping[str, Any]) -> str:
    """Return the exact origin of a package: the commit, or the archive with its hash, and the directory in it.

    `direct_url.json` is specified at https://packaging.python.org/en/latest/specifications/direct-url-data-structure/.
    """
    url = str(origin.get("url", ""))
    if vcs := origin.get("vcs_info"):
        url = f"{vcs['vcs']}+{url}@{vcs['commit_id']}"
    hashes = origin.get("archive_info", {}).get("hashes", {})
    fragments = [f"{name}={digest}" for name, digest in hashes.items()]
    if part := origin.get("subdirectory"):
        fragments.append(f"subdirectory={part}")
    return "#".join([url, *filter(None, ["&".join(fragments)])]) if url else ""
