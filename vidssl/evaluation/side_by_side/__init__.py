"""`vidssl compare`: results side by side, and which of their numbers may be compared."""
