"""What a run leaves to go on from: its state, in files that are complete or absent."""
