"""Zero-shot action recognition with a finished encoder, as `vidssl zero-shot` does, for launchers that want a file.

accelerate launch --num_processes 8 scripts/zero_shot.py runs/hsic /data/ucf101/val
accelerate launch --cpu --num_processes 2 scripts/zero_shot.py …
"""

import sys

from vidssl.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["zero-shot"]
    main()
