"""Runs a server's background work: sweeps, backups and spares."""
