"""Texts in the space of videos: classes as prompts, captions, and what training knew of their names."""
