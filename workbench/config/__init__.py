"""What is asked for: profiles, runs, paths and files."""
