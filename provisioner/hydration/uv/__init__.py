"""uv: a real virtual environment in the volume, from declared requirements."""

from __future__ import annotations

from provisioner.hydration.uv.declaration import Declaration, Project, Requirements
from provisioner.hydration.uv.script import InlineScript, inline_script
from provisioner.hydration.uv.step import UvEnvironment

__all__ = [
    "Declaration",
    "InlineScript",
    "Project",
    "Requirements",
    "UvEnvironment",
    "inline_script",
]
