"""Shutting idle kernels down, after a warning."""
