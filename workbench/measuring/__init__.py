"""Measuring: accuracy, robustness and map quality of a trained network."""
