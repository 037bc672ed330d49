"""What is done to volumes while nobody waits: the sweep, and spares made ready in advance.

May import: pool, hydration, system, settings, core.
"""
