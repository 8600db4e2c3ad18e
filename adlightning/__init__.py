"""adlightning: a PyTorch Lightning experiment framework for deep anomaly detection."""

__version__ = "0.1.0"
