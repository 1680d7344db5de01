"""The parts of `benchmarks/pretraining.py`: videos, recipes, one cell, the table."""
