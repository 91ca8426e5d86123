"""Training: from data to weights."""
