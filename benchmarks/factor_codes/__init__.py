"""The parts of `benchmarks/disentangle.py`: the joint read-out, and the network that is told the sense of spin."""
