"""What users can set: each setting and option declared once, and the sources it is read from.

May import: core.
"""
