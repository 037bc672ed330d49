"""The table of volumes, their names and their backups, and how it is rebuilt from what lies on disk.

May import: system, settings, core.
"""
