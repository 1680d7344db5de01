"""How an image tower learns of time, each starting as the mean over frames."""
