"""The maintenance of volumes: the sweep, and spares made in advance.

May import: pool, hydration, system, settings, core.
"""
