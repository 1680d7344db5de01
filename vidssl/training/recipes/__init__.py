"""What a recipe may say, and what it would do: before a run begins."""
