"""The training loop on accelerate."""

from pathlib import Path

from vidssl.config import Config

__all__ = ["pretrain"]


def pretrain(config: Config, resume: bool = False) -> Path:
    """Train the encoder that `config` describes; see :func:`vidssl.training.loop.pretrain`."""
    from vidssl.training.loop import pretrain as run

    return run(config, resume)
