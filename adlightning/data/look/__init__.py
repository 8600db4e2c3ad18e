"""A look at somebody's own data before anything is trained: what must be decided. Needs no torch."""
