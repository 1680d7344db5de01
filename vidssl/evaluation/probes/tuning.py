"""The training of a whole encoder and a linear head on labelled videos, in one process and the same every time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vidssl.data.dataset import ClipDataset
from vidssl.data.loader import build_loader
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.order import GlobalBatchSampler
from vidssl.data.views.render import render_views
from vidssl.data.views.spec import ViewSpec
from vidssl.errors import VidsslError, check_value
from vidssl.evaluation.setup import Subject
from vidssl.models.encoder import VideoEncoder
from vidssl.progress import Progress

WARM_UP = 0.1  # share of the steps in which rates rise
LARGEST = 1.0  # norm of the gradient


@dataclass(frozen=True)
class TuningOptions:
    """How an encoder is tuned.

    Args:
        epochs: passes over the videos; the last batch of all is full, of videos that come again.
        batch_size: videos in a step.
        rate: of the encoder; that of the head is `head_factor` times as high. Both rise and then follow a cosine to 0.
        head_factor: see `rate`.
        decay: of matrices, by AdamW.
        scale: range of the crop's share of the frame; clips are not mirrored.
        shots: training videos of each class; None for all.
        seed: of the videos chosen, their order, their crops, and the head's start.
    """

    epochs: int = 10
    batch_size: int = 16
    rate: float = 3e-5
    head_factor: float = 10.0
    decay: float = 0.05
    scale: tuple[float, float] = (0.5, 1.0)
    shots: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            check_value(name, getattr(self, name), getattr(self, name) >= 1, "at least 1")
        for name in ("rate", "head_factor"):
            check_value(name, getattr(self, name), 0 < getattr(self, name) < math.inf, "above 0")
        check_value("decay", self.decay, 0 <= self.decay < math.inf, "at least 0")
        check_value("shots", self.shots, self.shots is None or self.shots >= 1, "at least 1")


class Classifier(nn.Module):
    """An encoder and a linear layer on its clip features, which are brought to mean 0 and variance 1 first."""

    def __init__(self, encoder: VideoEncoder, classes: int, seed: int) -> None:
        super().__init__()
        self.encoder, self.head = encoder, nn.Linear(encoder.embed_dim, classes)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.head.weight.copy_(0.01 * torch.randn(self.head.weight.shape, generator=generator))
            self.head.bias.zero_()

    def forward(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) clips -> (B, K) logits."""
        features = self.encoder(clips).clip.float()
        return self.head(F.layer_norm(features, features.shape[-1:]))  # type: ignore[no-any-return]


def tune(
    classifier: Classifier,
    subject: Subject,
    index: VideoIndex,
    labels: Tensor,
    how: TuningOptions,
    description: str,
) -> list[float]:
    """Train encoder and head; torch's default generator is left as it was.

    Args:
        classifier: on the device of `subject`, in evaluation mode again afterwards.
        subject: says how clips are cut. index: the videos; one that cannot be read is replaced by another. labels: (len(index),).

    Returns:
        The mean loss of the steps that begin in each epoch.

    Raises:
        VidsslError: the loss is no longer finite.
    """
    spec = subject.options.spec(subject.encoder)
    seconds = None if spec.clip.stride or spec.clip.seconds == math.inf else spec.clip.seconds
    view = ViewSpec(
        "finetune", 1, spec.clip.frames, seconds=seconds, stride=spec.clip.stride, size=spec.size, scale=how.scale, flip=0.0
    )  # fmt: skip
    batch = min(how.batch_size, len(index))
    steps = math.ceil(how.epochs * len(index) / batch)
    sampler = GlobalBatchSampler(len(index), batch, seed=how.seed, drop_last=False, total_steps=steps)
    dataset = ClipDataset(index, [view], seed=how.seed, backend=subject.options.backend, decode_size=None)
    optimizer = torch.optim.AdamW(_groups(classifier, how))
    rates = [group["lr"] for group in optimizer.param_groups]
    losses: list[float] = []
    classifier.train().requires_grad_(True)
    devices = [subject.device] if subject.device.type == "cuda" else []
    with (
        torch.random.fork_rng(devices),
        torch.enable_grad(),
        Progress(description, steps, "step", delay=1) as bar,
    ):
        torch.manual_seed(how.seed)
        for step, rows in enumerate(build_loader(dataset, sampler, num_workers=subject.options.workers)):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * _factor(step, steps)
            moved = rows.to(subject.device)
            [clips] = render_views(moved, [view], subject.encoder.mean, subject.encoder.std)
            loss = F.cross_entropy(classifier(clips), labels[rows.video_id].to(subject.device))
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise VidsslError(
                    f"finetune: the loss is {losses[-1]} at step {step + 1} of {steps}; a lower rate than {how.rate:g} may help"
                )
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(classifier.parameters(), LARGEST)
            optimizer.step()
            bar.note = f"loss {losses[-1]:.3f}"
            bar.update()
    classifier.eval()
    epochs: dict[int, list[float]] = {}
    for step, value in enumerate(losses):
        epochs.setdefault(step * batch // len(index), []).append(value)
    return [sum(part) / len(part) for part in epochs.values()]


def _groups(classifier: Classifier, how: TuningOptions) -> Sequence[dict[str, object]]:
    """Parameters of encoder and head; matrices decay, what is less does not."""
    parts = ((classifier.encoder, how.rate), (classifier.head, how.rate * how.head_factor))
    groups: list[dict[str, object]] = []
    for module, rate in parts:
        for decayed in (True, False):
            chosen = [parameter for parameter in module.parameters() if (parameter.ndim > 1) == decayed]
            if chosen:
                groups.append({"params": chosen, "lr": rate, "weight_decay": how.decay if decayed else 0.0})
    return groups


def _factor(step: int, steps: int) -> float:
    """Of the rate: it rises over a tenth of the steps, then follows a cosine."""
    warm = math.ceil(WARM_UP * steps)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(steps - warm, 1)))
