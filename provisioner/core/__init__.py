"""What a volume, a session and a policy are: values in, values out, without clock, disk or log.

May import: nothing of this package.
"""
