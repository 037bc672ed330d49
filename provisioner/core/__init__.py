"""The pure part: sessions, policy, records, events, errors and durations, without clock, disk or log.

May import: nothing of this package.
"""
