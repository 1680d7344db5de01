"""The parts of `benchmarks/tracking.py`: recipes, the tracking of one row, the table."""
