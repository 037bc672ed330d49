"""Hydration: what brings a volume's environment to what its kernelspec declares."""
