"""What people write lists of videos in: each format to the same rows."""
