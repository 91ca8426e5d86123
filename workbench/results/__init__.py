"""Records of runs as frames, and their statistics."""
