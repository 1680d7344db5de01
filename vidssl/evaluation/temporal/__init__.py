"""Does an encoder use time? Order, direction and speed of frames, and what is left of classes without them."""
