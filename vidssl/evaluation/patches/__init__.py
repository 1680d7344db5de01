"""Patch features of videos: as a file, and as colours over time."""
