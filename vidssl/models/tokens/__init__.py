"""Image transformers by their tokens: taken apart, and some of the tokens left out in training."""
