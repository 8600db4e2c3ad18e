"""What is on disk of a detector: reading what anybody hands us, training state, stored configurations."""
