"""What a volume loses when its Python changes version: packages are installed for one version each."""

from __future__ import annotations

import json
import re
import shlex
from importlib.metadata import Distribution, distributions
from pathlib import Path


def packages_to_install_again(root: Path) -> str:
    """Return the arguments for `pip install` that bring back what the latest other version had.

    An empty string if no version had anything. The old packages stay where they are: should that Python
    come back, so do they.
    """
    for library in sorted((root / "lib").glob("python3.*"), key=_version, reverse=True):
        found = distributions(path=[str(library / "site-packages")])
        arguments = {_argument(distribution) for distribution in found if distribution.metadata}
        if wanted := sorted(arguments - {""}):
            return " ".join(wanted)
    return ""


def _version(library: Path) -> int:
    return int(re.sub(r"\D", "", library.name.removeprefix("python3.")) or 0)


def _argument(distribution: Distribution) -> str:
    name = distribution.metadata["Name"]
    if not name or name == "pip":  # which every environment has again by itself
        return ""
    try:
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        if url := origin.get("url"):
            editable = "-e " if origin.get("dir_info", {}).get("editable") else ""
            return editable + shlex.quote(url if editable else f"{name} @ {url}")
    except (ValueError, AttributeError):
        pass  # a damaged record of where it came from: its name and version will have to do
    return f"{name}=={distribution.version}"
