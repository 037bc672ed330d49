"""Runs programs of other people on behalf of a step, and leaves no process of theirs behind."""
