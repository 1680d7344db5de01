"""The parts of `benchmarks/comparison.py`: videos, recipes, one cell, the table."""
