"""``jupyter volumes doctor``: what is examined, one kind of thing per file; nothing here changes anything."""
