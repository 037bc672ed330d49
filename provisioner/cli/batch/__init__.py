"""Batch runs: executes notebooks, each in its volume."""
