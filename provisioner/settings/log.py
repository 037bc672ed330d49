"""The logger of all rooms: `jupyter_volumes` in a logging configuration."""

from __future__ import annotations

import logging

log = logging.getLogger("jupyter_volumes")
