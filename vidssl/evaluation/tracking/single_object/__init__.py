"""One object, followed as a box through a video that shows it in its first frame."""
