"""Sweeps and spares: the work of a server in threads of its own."""
