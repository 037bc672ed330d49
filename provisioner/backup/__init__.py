"""Writes, verifies and restores backups (``.tar.zst``), and stores them at destinations.

Knows no pool and no table. May import: system, settings, core.
"""
