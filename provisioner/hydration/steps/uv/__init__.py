"""uv: a real virtual environment in the volume, from declared requirements."""
