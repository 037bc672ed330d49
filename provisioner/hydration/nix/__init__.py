"""Nix: the kernel runs inside a development shell, a profile or a package set, kept in the volume."""

from __future__ import annotations

from provisioner.hydration.nix.allowed import allows
from provisioner.hydration.nix.profile import NixProfile

__all__ = ["NixProfile", "allows"]
