"""The steps of a hydration: each brings one kind of environment about."""
