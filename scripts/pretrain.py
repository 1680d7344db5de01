"""Pretrain a video encoder, as `vidssl pretrain` does, for launchers that want a file.

accelerate launch --num_processes 8 scripts/pretrain.py configs/hsic.yaml data.train=/data/kinetics400/train output=runs/hsic
accelerate launch --cpu --num_processes 2 scripts/pretrain.py …
"""

import sys

from vidssl.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["pretrain"]
    main()
