"""Data sets as tensors: described, downloaded, verified, decoded, split."""
