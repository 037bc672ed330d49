"""What a server tells of its volumes: events and metrics."""
