"""Stores backups: in a local directory, or behind a URL that fsspec understands."""
