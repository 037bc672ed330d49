"""Which notebook a kernel belongs to, and what happens when a notebook is renamed, moved or deleted."""
