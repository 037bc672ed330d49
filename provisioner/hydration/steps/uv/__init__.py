"""uv: a real virtual environment in the volume, made from declared requirements."""
