"""Callbacks: what surrounds a training run and knows no method."""
