"""Looking at trained networks in a notebook."""
