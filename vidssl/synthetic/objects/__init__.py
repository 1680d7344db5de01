"""Sequences of several sprites that pass in front of each other: every pixel's object, boxes and key points are known."""
