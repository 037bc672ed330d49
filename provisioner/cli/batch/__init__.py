"""Batch runs: notebooks executed each in its volume."""
