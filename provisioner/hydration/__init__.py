"""Hydration: brings the environment of a volume to what its kernelspec declares.

Knows no pool and no kernel. May import: system, settings, core.
"""
