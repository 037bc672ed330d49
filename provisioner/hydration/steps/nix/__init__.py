"""Nix: the kernel runs inside a development shell, a profile or a package of Nix, kept in the volume."""
