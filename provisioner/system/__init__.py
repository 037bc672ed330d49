"""What the operating system gives: locks and leases, files, processes, threads, and the root.

May import: settings, core.
"""
