"""`vidssl demo`: the whole of the package on a bare machine, in a few minutes, without network or weights."""

from vidssl.demo.run import run_demo

__all__ = ["run_demo"]
