"""Data: sources of samples, splits of labels, batches, and the LightningDataModules that put them together."""
