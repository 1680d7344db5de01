"""What benchmarks/faults.py does to runs, and how it looks what became of them."""
