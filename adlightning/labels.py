"""The convention of labels, everywhere: what a sample is, and what training may know of it."""

from __future__ import annotations

NORMAL, ANOMALY, NO_LABEL = 0, 1, -1
"""What a sample is."""

KNOWN_NORMAL, UNLABELLED, KNOWN_ANOMALY = 1, 0, -1
"""What training may know of a sample."""
