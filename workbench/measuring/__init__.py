"""Numbers of a trained network."""
