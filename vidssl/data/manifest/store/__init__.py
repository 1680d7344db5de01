"""What is known of every file, in one columnar file: never scanned twice, and opened without being read."""
