"""A linear probe of a finished encoder, as `vidssl linear-probe` does, for launchers that want a file.

accelerate launch --num_processes 8 scripts/linear_probe.py runs/hsic /data/ucf101/train /data/ucf101/val
accelerate launch --cpu --num_processes 2 scripts/linear_probe.py …
"""

import sys

from vidssl.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["linear-probe"]
    main()
