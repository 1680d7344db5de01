"""A CLIP of a few million weights, trained from captioned images in about a minute on two cores.

It stands in for a large pretrained image CLIP in the demo and in tests: same classes, same files, no download. The
objective is the symmetric InfoNCE of CLIP (Radford et al. 2021, arXiv 2103.00020), the result an open_clip folder:

>>> images, captions = captioned_frames(4096, size=64, seed=0, keep=0.5)
>>> train_toy_clip(images, captions, "clip", steps=300, batch_size=128, seed=0)
>>> model = open_clip.create_model("local-dir:clip")
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vidssl.errors import VidsslError
from vidssl.files import write_json, write_tensors

CONTEXT_LENGTH = 32
LEARNING_RATE = 1e-3
WEIGHT_DECAY = 0.05
WARMUP = 0.1  # fraction of the steps
# Factors on the image tower's initial weights. Where something is, is a product of content and place. A fresh ViT
# starts near a saddle of that product: flat attention averages the places away, and hundreds of steps go by before
# position words mean anything. Louder places and sharper attention start it off the saddle.
POSITION_GAIN = 8.0
ATTENTION_GAIN = 3.0  # on queries and keys each


def toy_clip_config(image_size: int = 64, patch_size: int = 16, width: int = 128) -> dict[str, Any]:
    """open_clip's model configuration: a ViT of 3 layers of that width, a text tower of 2 of width 64, embedding `width`."""
    vision = {
        "image_size": image_size,
        "patch_size": patch_size,
        "width": width,
        "head_width": 32,
        "layers": 3,
    }
    text = {"context_length": CONTEXT_LENGTH, "vocab_size": 49408, "width": 64, "heads": 4, "layers": 2}
    return {"embed_dim": width, "vision_cfg": vision, "text_cfg": text}


def learning_rate_at(step: int, steps: int) -> float:
    """Linear warm-up, then a half cosine to zero; as a fraction of the peak."""
    warmup = max(1, round(WARMUP * steps))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def save_clip(
    model: nn.Module,
    model_config: dict[str, Any],
    mean: Sequence[float],
    std: Sequence[float],
    folder: Path | str,
) -> None:
    """Write `open_clip_config.json` and `open_clip_model.safetensors`, which "local-dir:<folder>" loads."""
    preprocess = {"mean": list(mean), "std": list(std), "interpolation": "bicubic", "resize_mode": "shortest"}
    config = {"model_cfg": model_config, "preprocess_cfg": preprocess}
    write_json(Path(folder) / "open_clip_config.json", config)
    write_tensors(Path(folder) / "open_clip_model.safetensors", model.state_dict())


def train_toy_clip(
    images: NDArray[np.uint8],
    captions: Sequence[str],
    folder: Path | str,
    *,
    patch_size: int = 16,
    width: int = 128,
    steps: int = 300,
    batch_size: int = 128,
    seed: int = 0,
    device: torch.device | str = "cpu",
    progress: Callable[[int, float], None] | None = None,
) -> None:
    """Train a small CLIP and save it as an open_clip folder.

    Args:
        images: (N, H, H, 3) uint8, H a multiple of `patch_size`. captions: N sentences; words after the 30th token are cut.
        folder: where the two files go; made if absent.
        patch_size, width: of the image tower; width a multiple of 32.
        steps, batch_size: AdamW steps, pairs in each.
        seed: of the initial weights and of the batches; the caller's random state is left as it was.
        progress: called after every step with its number (from 1) and its loss.

    Raises:
        VidsslError: if the shapes, the number of captions, steps or batch_size do not fit.
    """
    import open_clip

    _check(images, captions, steps, batch_size)
    config = toy_clip_config(images.shape[1], patch_size, width)
    tokens = open_clip.SimpleTokenizer(context_length=CONTEXT_LENGTH)(list(captions))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.CLIP(**config)
    _sharpen(model.visual)
    model.to(device).train()
    optimizer = _optimizer(model)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: learning_rate_at(step, steps))
    loss_of = open_clip.ClipLoss()
    mean, std = _statistics(images)
    shift, scale = (torch.tensor(values, device=device).view(3, 1, 1) for values in (mean, std))
    batches = _batches(len(images), batch_size, torch.Generator().manual_seed(seed))
    for step, rows in zip(range(1, steps + 1), batches, strict=False):
        pixels = torch.from_numpy(images[rows.numpy()]).to(device).permute(0, 3, 1, 2)
        outputs = model((pixels / 255 - shift) / scale, tokens[rows].to(device))
        loss = loss_of(*outputs)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        if progress is not None:
            progress(step, loss.item())
    save_clip(model, config, mean, std, folder)


@torch.no_grad()
def _sharpen(visual: nn.Module) -> None:
    """Scale the initial place embeddings and the query and key weights of an open_clip ViT, in place."""
    weights: dict[str, Tensor] = dict(visual.named_parameters())
    weights["positional_embedding"].mul_(POSITION_GAIN)
    for name, weight in weights.items():
        if name.endswith("attn.in_proj_weight"):  # queries, keys, values stacked
            weight[: 2 * weight.shape[1]].mul_(ATTENTION_GAIN)


def _statistics(images: NDArray[np.uint8]) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, of images scaled to [0, 1], over at most 512 of them."""
    sample = images[:512].astype(np.float64) / 255
    return sample.mean((0, 1, 2)).tolist(), np.maximum(sample.std((0, 1, 2)), 1e-3).tolist()


def _batches(count: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices without replacement, epoch after epoch; a short last batch is dropped."""
    while True:
        order = torch.randperm(count, generator=generator)
        yield from order[: count - count % batch_size].split(batch_size)


def _optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW without decay of gains, biases and the logit scale."""
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    plain = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.98), eps=1e-6)


def _check(images: NDArray[np.uint8], captions: Sequence[str], steps: int, batch_size: int) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (images.shape[1],) * 2 + (3,):
        raise VidsslError(
            f"toy CLIP: images {images.dtype} {images.shape}: must be square uint8 (N, H, H, 3)"
        )
    if len(captions) != len(images):
        raise VidsslError(f"toy CLIP: {len(captions)} captions for {len(images)} images")
    if not 2 <= batch_size <= len(images) or steps < 1:
        raise VidsslError(
            f"toy CLIP: batch_size={batch_size}, steps={steps}: "
            f"allowed are a batch of 2 to {len(images)} (the images) and at least one step"
        )
