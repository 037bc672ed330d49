"""How a kernel's process starts: the wrapped launcher.

May import: hydration, system, settings, core.
"""
