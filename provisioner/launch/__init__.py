"""How a kernel's process starts: the wrapped launcher, and what it prepares.

May import: hydration, system, settings, core.
"""
