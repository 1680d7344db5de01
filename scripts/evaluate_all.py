"""Every protocol on a list of data sets, one table, as `vidssl evaluate-all` does, for launchers that want a file.

accelerate launch --num_processes 8 scripts/evaluate_all.py runs/hsic /data/ucf101 /data/hmdb51 --output results.json
accelerate launch --cpu --num_processes 2 scripts/evaluate_all.py …
"""

import sys

from vidssl.cli import main

if __name__ == "__main__":
    sys.argv[1:1] = ["evaluate-all"]
    main()
