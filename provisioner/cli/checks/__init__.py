"""What `jupyter volumes doctor` looks at; one kind of thing per module, none of them changes anything."""
