"""Runs other people's programs on behalf of a step, and leaves nothing of them behind."""
