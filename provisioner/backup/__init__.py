"""Backups: written, verified and restored as ``.tar.zst``, and the destinations where they lie.

Knows no pool and no table. May import: system, settings, core.
"""
