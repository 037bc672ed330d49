"""What can be set, each option declared once, and where it is read from.

May import: core.
"""
