"""What was answered for each video: confusion, calibration, suspicious patterns, and the files that show them."""
