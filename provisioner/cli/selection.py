"""The volume that a command line names: by session, former name, id, or path of a notebook."""

from __future__ import annotations

import argparse
import os

from provisioner.core.errors import VolumeNotFound
from provisioner.core.record import Record
from provisioner.core.session import Clues, checked, choose
from provisioner.pool.pool import Pool, pool_of
from provisioner.settings import notebook
from provisioner.settings.pool import load_settings


def open_pool(args: argparse.Namespace) -> Pool:
    """Return the pool of the settings; it opens its root on first use."""
    return pool_of(load_settings(args.config))


def find_volume(pool: Pool, text: str) -> Record:
    """Return the volume that SESSION names; `VolumeNotFound` names the most similar sessions."""
    try:
        return pool.find(text)
    except VolumeNotFound:
        name = _session_of_notebook(text)
        if name is None or name == text:
            raise
    return pool.find(name)


def session_name(text: str) -> str:
    """Return the session that SESSION names, whether or not it has a volume; raises `BadSession`."""
    return _session_of_notebook(text) or checked(text, "the command line")


def _session_of_notebook(text: str) -> str | None:
    """Return the session of a kernel of the notebook `text`; None if it is not the path of a notebook."""
    if not text.endswith(".ipynb") or "\0" in text:
        return None
    if os.sep not in text and not os.path.exists(text):
        return None
    path = notebook.canonical(text)
    metadata = notebook.volume_metadata(path).get("session")
    return choose(Clues(kernel_id="", metadata=metadata, notebook=path)).name
