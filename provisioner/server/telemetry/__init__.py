"""Events and metrics about the volumes of a server."""
