"""The steps of a hydration, one package or file each."""
