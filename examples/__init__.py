"""SMOOT in the training loops of other libraries; each file runs by ``python -m examples.NAME``."""
