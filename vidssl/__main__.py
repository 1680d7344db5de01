"""`python -m vidssl`, which is also what `accelerate launch -m vidssl` starts."""

from vidssl.cli import main

main()
