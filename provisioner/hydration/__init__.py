"""Hydration: brings the environment of a volume to what its kernelspec declares.

The order of a hydration: `kernelspec` reads what is declared, `environment` applies it to one volume, `plan` turns it
into steps, `runner` runs the steps that `journal` does not list as done, and the steps run tools through `hooks/`.
Knows no pool and no kernel. May import: system, settings, core.
"""
