"""The volume that a command line names: by session, former name, id, or path of a notebook."""

from __future__ import annotations

import argparse
import os

from provisioner.cli.settings import settings_of
from provisioner.core.errors import VolumeNotFound
from provisioner.core.record import Record
from provisioner.core.session import Clues, checked, choose
from provisioner.pool.pool import Pool, pool_of
from provisioner.settings import notebook


def open_pool(args: argparse.Namespace) -> Pool:
    """Return the pool of the settings; it opens its root on first use."""
    return pool_of(settings_of(args))


def add_session_argument(parser: argparse.ArgumentParser) -> None:
    """Declare the argument SESSION."""
    parser.add_argument(
        "session",
        metavar="SESSION",
        help="the session's name, a former name, the volume's id, or the path of its notebook",
    )


def find_volume(pool: Pool, text: str) -> Record:
    """Return the volume that SESSION names.

    Raises
    ------
    VolumeNotFound
        If there is none; the message names the most similar sessions.
    """
    try:
        return pool.find(text)
    except VolumeNotFound:
        name = session_of_notebook(text)
        if name is None or name == text:
            raise
    return pool.find(name)


def session_name(text: str) -> str:
    """Return the session that SESSION names, whether or not it has a volume.

    Raises
    ------
    BadSession
        If it cannot be the name of a session.
    """
    return session_of_notebook(text) or checked(text, "the command line")


def session_of_notebook(text: str) -> str | None:
    """Return the session of a kernel of the notebook `text`; None if it is not the path of a notebook."""
    if not text.endswith(".ipynb") or "\0" in text:
        return None
    if os.sep not in text and not os.path.exists(text):
        return None
    path = notebook.canonical(text)
    metadata = notebook.volume_metadata(path).get("session")
    return choose(Clues(kernel_id="", metadata=metadata, notebook=path)).name
