"""AnomalyDetector and what surrounds it: batches and input, scores, metrics, thresholds, collapse, faults."""
