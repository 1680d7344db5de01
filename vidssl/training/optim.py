"""Parameter groups and the learning-rate schedule, a pure function of the step so that resuming needs no state."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from vidssl.models.student import Student

Group = dict[str, Any]
MIN_WARMUP = 10  # steps


def freeze_parameters(student: Student, freeze: str) -> None:
    """Freeze parts of the encoder.

    Args:
        student: encoder and heads.
        freeze: ``"none"``, ``"projection"`` (the final norm and the map into the joint image-text space keep their
            meaning) or ``"all_but_temporal"`` (only what the image model did not have is trained).
    """
    for name, parameter in student.encoder.named_parameters():
        if freeze == "all_but_temporal":
            parameter.requires_grad_(is_temporal(name))
        elif freeze == "projection":
            parameter.requires_grad_(not any(part in name.split(".") for part in ("proj", "ln_post")))


def is_temporal(name: str) -> bool:
    """Whether an encoder parameter belongs to what was added to the image model."""
    return "temporal" in name or "time_embed" in name


def parameter_groups(
    student: Student,
    objective_groups: Iterable[Group],
    *,
    lr: float,
    weight_decay: float,
    pretrained_lr_scale: float,
    pretrained: bool,
) -> list[Group]:
    """Groups for AdamW; each carries ``lr_scale`` (factor on the schedule) and ``constant_lr`` (exempt from it).

    Weight decay spares vectors and embeddings. Weights that came from a checkpoint learn at ``pretrained_lr_scale``;
    heads and temporal parts at the full rate. `objective_groups` are an objective's own (a kernel bandwidth, say).
    """
    buckets: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in student.named_parameters():
        if not parameter.requires_grad:
            continue
        loaded = pretrained and name.startswith("encoder.") and not is_temporal(name)
        decays = parameter.ndim > 1 and "embed" not in name
        key = (pretrained_lr_scale if loaded else 1.0, weight_decay if decays else 0.0)
        buckets.setdefault(key, []).append(parameter)
    groups: list[Group] = [
        {
            "params": parameters,
            "lr": lr * scale,
            "lr_scale": scale,
            "weight_decay": decay,
            "constant_lr": False,
        }
        for (scale, decay), parameters in buckets.items()
        if scale > 0
    ]
    for group in objective_groups:
        constant = "lr" in group
        groups.append({"lr": lr, "lr_scale": 1.0, "weight_decay": 0.0, **group, "constant_lr": constant})
    return groups


def learning_rate(step: int, total: int, *, base: float, warmup: float, final: float) -> float:
    """Linear warm-up over the first `warmup` share of the steps, then a cosine from `base` to `final`.

    A short run warms up for at least `MIN_WARMUP` steps (or all of it): AdamW's first updates have full size
    whatever the gradient's, and rounding differences grow with them. `warmup` = 0 means none.

    Step 0 already learns (its rate is ``base / warm-up steps``); the last step ends at `final`.
    """
    warmup_steps = max(round(warmup * total), min(MIN_WARMUP, total) if warmup > 0 else 0, 1)
    if step < warmup_steps:
        return base * (step + 1) / warmup_steps
    progress = (step - warmup_steps + 1) / max(total - warmup_steps, 1)
    return final + (base - final) * (1 + math.cos(math.pi * progress)) / 2


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Apply the schedule's rate to every group that follows it."""
    for group in optimizer.param_groups:
        if not group["constant_lr"]:
            group["lr"] = rate * group["lr_scale"]
