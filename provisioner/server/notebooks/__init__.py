"""Tells kernels which notebook is theirs, and follows notebooks that are renamed, moved or deleted."""
