"""Features to a loss."""
