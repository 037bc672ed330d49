"""The overlay: a private `sys.prefix` in the volume over the packages of the launching environment."""
