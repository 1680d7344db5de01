"""Clips to features: encoders, heads, student and teacher."""
