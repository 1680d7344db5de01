"""Which single dimensions of a representation hold which factor of a video, and how much of it."""
