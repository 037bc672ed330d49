"""The one door to volumes: acquired, released, backed up, pruned, evicted and brought back.

May import: registry, backup, system, settings, core.
"""
