"""Work in the background of a server: a thread that begins when the server does and ends when it is told to."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod


class Background(ABC):
    """One thread, for as long as a server runs.

    It is a daemon: what it does may be killed at any line, and must not keep the server alive where it hangs.

    Parameters
    ----------
    name
        The thread's name.
    """

    def __init__(self, name: str) -> None:
        self._cancel = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self, within: float) -> bool:
        """Cancel what is under way, and begin nothing more; return whether that ended within so many seconds.

        Called from a thread, for it blocks; harmless where nothing was begun.
        """
        self._cancel.set()
        if self._thread.ident is None:
            return True
        self._thread.join(within)
        return not self._thread.is_alive()

    @abstractmethod
    def _run(self) -> None:
        """Called in the thread; returns soon after `_cancel` was set, and looks at that before it begins anything."""
