"""From whatever users name an encoder by to the encoder.

>>> encoder = vidssl.load_encoder("runs/first")                         # or a checkpoint, or an exported folder
>>> encoder = vidssl.load_encoder("ViT-B-32-quickgelu:openai")           # open_clip's name and tag
>>> encoder = vidssl.load_encoder("local-dir:/models/clip")              # or hf-hub:org/repo
>>> encoder = vidssl.load_encoder("timm/vit_small_patch14_dinov2.lvd142m:weights/dinov2.safetensors")
>>> encoder = vidssl.load_encoder("transformers/models/videomae-base")    # a folder, or org/repo of the hub
>>> encoder = vidssl.load_encoder("pytorchvideo/x3d_s:weights/X3D_S.pyth")
"""

from __future__ import annotations

from pathlib import Path

import torch

from vidssl.errors import VidsslError, did_you_mean
from vidssl.models.encoder import TextTower, VideoEncoder
from vidssl.models.export import read_encoder
from vidssl.models.factory import CONV3D, PYTORCHVIDEO, create_model
from vidssl.models.sources import CONFIG_FILE, HUB, LOCAL
from vidssl.models.stored import KINDS, find_encoder
from vidssl.models.towers.huggingface.create import TRANSFORMERS
from vidssl.models.towers.huggingface.package import is_package
from vidssl.models.towers.timm import TIMM


def load(path: str | Path) -> VideoEncoder:
    """The encoder of an exported folder, of a checkpoint folder, or of the newest checkpoint of a run folder.

    Args:
        path: the folder.

    Returns:
        The encoder, ready for evaluation.

    Raises:
        VidsslError: when the folder is none of these, or what it holds is damaged or cannot be loaded.
    """
    return read_encoder(find_encoder(path))


def load_encoder(source: str | Path, pretrained: str | None = None) -> VideoEncoder:
    """The encoder that a name or folder stands for.

    An image model is shown every frame by itself (``temporal="none"``), which is what it would start training from. An
    architecture without weights is drawn at random, the same every time; torch's default generator is left alone.

    Args:
        source: a run, checkpoint or exported folder; the folder of an open_clip model, with or without ``local-dir:``;
            ``hf-hub:org/repo``; the folder of a model of transformers, with or without ``transformers/``, or ``transformers/org/repo``;
            an architecture of open_clip, ``timm/NAME``, ``pytorchvideo/NAME`` or ``conv3d/NAME``, followed by ``:`` and what
            `vidssl.create_model` takes as its `pretrained` (a tag or a file).
        pretrained: instead of what follows the colon.

    Returns:
        The encoder, in evaluation mode, on the CPU.

    Raises:
        VidsslError: when nothing of that name is there, or it cannot be loaded.
    """
    name = str(source)
    folder = Path(name.removeprefix(LOCAL)).expanduser()
    if folder.is_dir():
        if (folder / CONFIG_FILE).is_file():
            name = f"{LOCAL}{folder}"
        elif is_package(folder):
            name = f"{TRANSFORMERS}{folder}"
        else:
            return load(folder)
    elif not name.startswith((LOCAL, HUB)):
        name, _, rest = name.partition(":")
        pretrained = pretrained or rest or None
        _check_name(name, source)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return create_model(name, pretrained, temporal="none").eval()


def load_text_tower(name: str | Path, pretrained: str | None = None) -> TextTower:
    """The text tower of an encoder that has one; see `load_encoder`.

    Raises:
        VidsslError: when it cannot be loaded or has no text tower.
    """
    encoder = load_encoder(name, pretrained)
    if encoder.text is None:
        raise VidsslError(f"{name}: has no text tower")
    return encoder.text


def _check_name(name: str, source: str | Path) -> None:
    import open_clip

    known = open_clip.list_models()
    if Path(name).is_file():
        raise VidsslError(
            f"{source}: is a file; name the model whose weights it holds before it, such as {TRANSFORMERS}videomae-base:{name}, "
            f"{TIMM}vit_small_patch16_224.dino:{name} or ViT-B-16:{name}"
        )
    if (
        not name.startswith((TIMM, TRANSFORMERS, PYTORCHVIDEO, CONV3D))
        and name.replace("/", "-") not in known
    ):
        raise VidsslError(
            f"{source}: no such folder, and no model of that name{did_you_mean(name, known)}; expected {KINDS}, or the "
            f"name of a model: NAME:TAG of open_clip, {LOCAL}/path, {HUB}org/repo, {TIMM}NAME, {TRANSFORMERS}FOLDER or ORG/NAME, {PYTORCHVIDEO}NAME, {CONV3D}NAME"
        )
