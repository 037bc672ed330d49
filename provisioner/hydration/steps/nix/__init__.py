"""Nix: the kernel runs inside a development shell, a profile or a package set, kept in the volume."""
