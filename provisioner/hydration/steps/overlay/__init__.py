"""The overlay: a private ``sys.prefix`` over all that the launching environment has."""
