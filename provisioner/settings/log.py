"""The logger that every room writes to: `jupyter_volumes` in a logging configuration."""

from __future__ import annotations

import logging

log = logging.getLogger("jupyter_volumes")
