"""Many jobs, each finished once."""
