"""The training loop on accelerate."""

from vidssl.training.loop import pretrain

__all__ = ["pretrain"]
