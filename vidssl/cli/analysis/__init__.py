"""Commands that look into an encoder: what of time, of factors, and in which geometry."""
