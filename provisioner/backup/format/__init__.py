"""Defines the format of a backup: its name, the headers of its members, its manifest and its trailer."""
