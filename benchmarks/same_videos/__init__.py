"""The same videos in every form that a data set may have."""
