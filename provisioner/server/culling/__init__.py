"""Shuts idle kernels down after a warning."""
