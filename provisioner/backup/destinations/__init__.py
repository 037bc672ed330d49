"""Where backups lie: a directory of this machine, or whatever a URL names."""
