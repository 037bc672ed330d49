"""What a volume loses when its Python changes version: packages are installed for one version each."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any


def packages_to_install_again(root: Path) -> str:
    """Return the arguments for `pip install` that bring back what the latest other version had.

    An empty string if no version had anything. The old packages stay where they are: should that Python
    come back, so do they.
    """
    for library in sorted((root / "lib").glob("python3.*"), key=_version, reverse=True):
        found = arguments(library / "site-packages").values()
        if wanted := sorted(shlex.join(words) for words in found):
            return " ".join(wanted)
    return ""


def arguments(packages: Path) -> dict[str, tuple[str, ...]]:
    """Return the arguments with which an installer brings back each package of a directory, by its normalized name.

    It is where the package came from, if that is known, else its version. pip is not among them.
    """
    found = {d.metadata["Name"]: d for d in distributions(path=[str(packages)]) if d.metadata}
    # Every environment has pip again by itself.
    return {normalized(n): _argument(n, d) for n, d in found.items() if n and n != "pip"}


def normalized(name: str) -> str:
    """Return a distribution's name as it is compared (PEP 503), however its files or its metadata write it."""
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
        pass  # a damaged record of where it came from: its name and version will have to do
    return (f"{name}=={distribution.version}",)


def _address(origin: Mapping[str, Any]) -> str:
    """Return from where a package came, exactly: the commit, the archive of that hash, the directory in it.

    As `direct_url.json` has it (https://packaging.python.org/en/latest/specifications/direct-url-data-structure/).
    """
    url = str(origin.get("url", ""))
    if vcs := origin.get("vcs_info"):
        url = f"{vcs['vcs']}+{url}@{vcs['commit_id']}"
    hashes = origin.get("archive_info", {}).get("hashes", {})
    fragments = [f"{name}={digest}" for name, digest in hashes.items()]
    if part := origin.get("subdirectory"):
        fragments.append(f"subdirectory={part}")
    return "#".join([url, *filter(None, ["&".join(fragments)])]) if url else ""
