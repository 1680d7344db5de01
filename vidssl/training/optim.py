"""The optimiser: parameter groups and the learning-rate schedule, a pure function of the step so that resuming needs no state."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from vidssl.config import TrainConfig
from vidssl.errors import VidsslError
from vidssl.models.student import Student
from vidssl.models.temporal.trunk import is_temporal
from vidssl.objectives.composite import Composite

Group = dict[str, Any]
MIN_WARMUP = 10  # steps
# The norm, the pool and the map into the joint image-text space, after the last block of an image transformer.
_PROJECTION = re.compile(
    r"visual\.(proj$|ln_post\.|attn_pool\.|head\.|trunk\.(norm|attn_pool|fc_norm|head)\.)"
)
_BLOCK = re.compile(r"visual\.(?:transformer\.resblocks|trunk\.blocks)\.(\d+)\.")


def freeze_parameters(student: Student, freeze: str, pretrained_lr_scale: float = 1.0) -> None:
    """Freeze parts of the encoder. Its text tower is never trained, whatever is chosen here.

    What does not learn has no gradient either: none that is computed, or that counts in the norm for clipping.

    Args:
        student: encoder and heads.
        freeze: ``"none"``, ``"projection"`` (the final norm and the map into the joint image-text space keep their
            meaning) or ``"all_but_temporal"`` (only what the image model did not have is trained).
        pretrained_lr_scale: 0 freezes all weights that came from a checkpoint.

    Raises:
        VidsslError: when the encoder has nothing to freeze, or there would be nothing left to train.
    """
    if pretrained_lr_scale == 0 and student.encoder.spec.get("pretrained") is not None:
        for name, parameter in student.encoder.named_parameters():
            parameter.requires_grad_(is_temporal(name))
        if not any(parameter.requires_grad for parameter in student.parameters()):
            raise VidsslError("train.pretrained_lr_scale=0: leaves nothing to train; choose one above 0")
    if freeze == "none":
        student.train(student.training)
        return
    trained = is_temporal if freeze == "all_but_temporal" else _is_before_projection
    chosen = {name: trained(name) for name, _ in student.encoder.named_parameters()}
    if len(set(chosen.values())) < 2:
        missing = (
            "attention over time" if freeze == "all_but_temporal" else "projection behind transformer blocks"
        )
        raise VidsslError(f"model.freeze={freeze}: this encoder has no {missing}; choose another freeze")
    for name, parameter in student.encoder.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and chosen[name])
    student.train(student.training)  # frozen batch norm takes no statistics any more


def _is_before_projection(name: str) -> bool:
    return _PROJECTION.match(name) is None


def layer_scales(student: Student, decay: float) -> dict[str, float]:
    """Factors on the learning rate of a vision transformer's weights, by depth (after Clark et al. 2020, ELECTRA).

    Args:
        student: encoder and heads.
        decay: d in (0, 1]. Of L blocks, block l = 1 … L has the factor d^(L - l), what stands before the first one
            (patches, class token, positions, first norm) d^L, the final norm and the projection 1.

    Returns:
        Encoder parameter name -> factor; temporal parts, which are new, have none. Empty for d = 1.

    Raises:
        VidsslError: for d < 1 and an encoder that is no image transformer.
    """
    if decay == 1:
        return {}
    names = [name for name, _ in student.encoder.named_parameters() if not is_temporal(name)]
    found = {name: _BLOCK.match(name) for name in names}
    blocks = {name: int(match.group(1)) + 1 for name, match in found.items() if match}
    if not blocks:
        raise VidsslError(f"train.layer_decay={decay:g}: this encoder is no image transformer; set it to 1")
    depth = max(blocks.values())
    place = {name: blocks.get(name, 0 if _is_before_projection(name) else depth) for name in names}
    return {name: decay ** (depth - layer) for name, layer in place.items()}


def parameter_groups(
    student: Student, objective_groups: Iterable[Group], train: TrainConfig, pretrained: bool
) -> list[Group]:
    """Groups for the optimiser; each carries ``lr_scale`` (factor on the schedule) and ``constant_lr`` (exempt from it).

    Weight decay spares vectors and embeddings. Weights that came from a checkpoint (where `pretrained`) learn at
    ``train.pretrained_lr_scale`` times their factor of `layer_scales`; heads and temporal parts at the full rate.
    `objective_groups` are an objective's own (a kernel bandwidth, say).

    Raises:
        VidsslError: as `layer_scales`, or for a decay without pretrained weights.
    """
    if train.layer_decay != 1 and not pretrained:
        raise VidsslError(
            f"train.layer_decay={train.layer_decay:g}: is for pretrained weights; there are none"
        )
    by_layer = layer_scales(student, train.layer_decay)
    buckets: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in student.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = 1.0
        if pretrained and name.startswith("encoder.") and not is_temporal(name):
            scale = train.pretrained_lr_scale * by_layer.get(name.removeprefix("encoder."), 1.0)
        decay = train.weight_decay if parameter.ndim > 1 and "embed" not in name else 0.0
        buckets.setdefault((scale, decay), []).append(parameter)
    groups: list[Group] = [
        {
            "params": parameters,
            "lr": train.lr * scale,
            "lr_scale": scale,
            "weight_decay": decay,
            "constant_lr": False,
        }
        for (scale, decay), parameters in buckets.items()
    ]
    for group in objective_groups:
        constant = "lr" in group
        groups.append(
            {"lr": train.lr, "lr_scale": 1.0, "weight_decay": 0.0, **group, "constant_lr": constant}
        )
    return groups


def make_optimizer(student: Student, objective: Composite, train: TrainConfig) -> torch.optim.Optimizer:
    """AdamW or LARS over a student and what the objectives own, as the recipe says; see `parameter_groups`.

    LARS (You et al. 2017, arXiv 1708.03888; timm's): SGD with momentum ``betas[0]`` whose rate for each matrix is 1e-3 times
    the norm of its weights over that of its gradient. Groups without decay are left to plain momentum.

    Raises:
        VidsslError: for LARS without weight decay, which would adapt nothing.
    """
    pretrained = student.encoder.spec["pretrained"] is not None
    groups = parameter_groups(student, objective.param_groups(), train, pretrained)
    if train.optimizer == "adamw":
        # One pass over the weights, and nothing read back from the device; only where all of them are of a kind that has it.
        plain = all(p.is_floating_point() for group in groups for p in group["params"])
        return torch.optim.AdamW(groups, lr=train.lr, betas=train.betas, eps=train.eps, fused=plain)
    if train.weight_decay == 0:
        raise VidsslError(
            "train.optimizer=lars: adapts the rate where there is weight decay; set train.weight_decay above 0 (1e-6 is usual)"
        )
    from timm.optim.lars import Lars

    optimizer: torch.optim.Optimizer = Lars(groups, lr=train.lr, momentum=train.betas[0])
    return optimizer


def learning_rate(step: int, total: int, train: TrainConfig) -> float:
    """Linear warm-up over the first `warmup` share of the steps, then a cosine from `lr` to `min_lr`.

    A short run warms up for at least `MIN_WARMUP` steps (or all of it): AdamW's first updates have full size
    whatever the gradient's, and rounding differences grow with them. `warmup` = 0 means none.

    Step 0 already learns (its rate is ``lr / warm-up steps``); the last step ends at `min_lr`.
    """
    base, final, warmup = train.lr, train.min_lr, train.warmup
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
