"""What a server does while nobody waits: sweeps and spares, in threads of their own."""
