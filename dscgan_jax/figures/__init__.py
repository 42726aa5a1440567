"""Arrays to Matplotlib pictures."""
