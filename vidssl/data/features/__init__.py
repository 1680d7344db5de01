"""Features of frames instead of frames: how they are made of videos, kept in files, and drawn from in training."""
