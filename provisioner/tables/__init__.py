"""What the registry keeps, one noun a file: volumes, the names they bear, spares, backups."""
