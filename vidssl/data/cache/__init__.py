"""Frames that were decoded once and are kept, in memory or on a disk, so that later epochs decode nothing."""
