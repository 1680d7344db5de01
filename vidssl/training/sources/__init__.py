"""What a run is trained on: videos, or features that were kept of their frames."""
