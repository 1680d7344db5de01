"""`vidssl.load`: from a path that users know to the encoder it stands for.

An exported folder, a checkpoint folder (which holds one as ``encoder/``), or a run folder (for its newest checkpoint).
The encoder of a checkpoint must be as it was written.
"""

from __future__ import annotations

from pathlib import Path

from vidssl.errors import VidsslError
from vidssl.files import CHECKPOINTS, CHECKSUMS, newest_checkpoint, require_whole
from vidssl.models.encoder import TextTower, VideoEncoder
from vidssl.models.export import CONFIG, load_encoder
from vidssl.models.factory import create_model
from vidssl.models.sources import CONFIG_FILE, LOCAL

_EXPECTED = "expected an exported encoder (config.json), a checkpoint (encoder/) or a run (checkpoints/)"


def load(path: str | Path) -> VideoEncoder:
    """The encoder of an exported folder, of a checkpoint folder, or of the newest checkpoint of a run folder.

    Args:
        path: the folder.

    Returns:
        The encoder, ready for evaluation.

    Raises:
        VidsslError: when the folder is none of these, or what it holds is damaged or cannot be loaded.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise VidsslError(f"{path}: {'not a folder' if folder.exists() else 'no such folder'}; {_EXPECTED}")
    folder = newest_checkpoint(folder) or folder
    for candidate in (folder, folder / "encoder"):
        if (candidate / CONFIG).is_file():
            _check_checkpoint(candidate)
            return load_encoder(candidate)
    raise VidsslError(f"{path}: holds no encoder; {_EXPECTED}")


def _check_checkpoint(encoder: Path) -> None:
    """Where an encoder folder is that of a run's checkpoint, insist that it is as it was written."""
    checkpoint = encoder.resolve().parent
    if checkpoint.parent.name == CHECKPOINTS or (checkpoint / CHECKSUMS).is_file():
        require_whole(checkpoint, below=f"{encoder.name}/")


def load_text_tower(name: str | Path, pretrained: str | None = None) -> TextTower:
    """A text tower from whatever names an encoder that has one.

    Args:
        name: run, checkpoint or exported encoder; folder of an open_clip model; or a name for `vidssl.create_model`.
        pretrained: weights for an architecture's name.

    Raises:
        VidsslError: when it cannot be loaded or has no text tower.
    """
    folder = Path(str(name).removeprefix(LOCAL)).expanduser()
    if folder.is_dir() and not (folder / CONFIG_FILE).is_file():
        encoder = load(folder)
    else:
        model = f"{LOCAL}{folder}" if folder.is_dir() else str(name)
        encoder = create_model(model, pretrained, temporal="none")
    if encoder.text is None:
        raise VidsslError(f"{name}: has no text tower")
    return encoder.text
