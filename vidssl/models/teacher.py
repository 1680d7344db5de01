"""The teacher: a copy of the student that follows it as an exponential moving average.

Mean teacher, Tarvainen & Valpola 2017, arXiv 1703.01780; the cosine schedule is BYOL's, Grill et al. 2020, arXiv
2006.07733.
"""

from __future__ import annotations

import copy
import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vidssl.distributed import own_part
from vidssl.errors import VidsslError
from vidssl.models.batch_norm import is_frozen_norm


class Teacher(nn.Module):
    """Exponential moving average of a whole student; never receives a gradient.

    Args:
        student: copied, but for what is frozen already: those parameters, and the statistics of frozen batch norm, are the
            student's own, since their average is what they are (and so is its text tower). Parameters of less than float32 are kept in float32 here, since small steps of the
            average would be rounded away.
        train_mode_norm: whether `train()` makes batch-norm layers use the statistics of the batch, as the student's do
            (BYOL). Everything else (dropout, stochastic depth) stays in evaluation mode always. With False, or after
            `eval()`, the running statistics are used, which `update` copies from the student. So they are where it is frozen.
    """

    def __init__(self, student: nn.Module, train_mode_norm: bool = True) -> None:
        super().__init__()
        self.train_mode_norm = train_mode_norm
        still = {name: layer for name, layer in student.named_modules() if is_frozen_norm(layer)}
        self._still = set(still)
        frozen = {id(p): p for p in student.parameters() if not p.requires_grad and p.element_size() >= 4}
        frozen_statistics = {id(b): b for layer in still.values() for b in layer.buffers()}
        self.module = copy.deepcopy(student, {**frozen, **frozen_statistics}).requires_grad_(False)
        for parameter in self.module.parameters():
            if parameter.is_floating_point() and parameter.element_size() < 4:
                parameter.data = parameter.data.float()
        self.train()

    def train(self, mode: bool = True) -> Teacher:
        """Evaluation mode, except for batch norm as described above."""
        self.training = mode
        self.module.eval()
        if self.train_mode_norm:
            for name, layer in self.module.named_modules():
                if isinstance(layer, _BatchNorm) and name not in self._still:
                    layer.train(mode)
        return self

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The student's forward, without gradient."""
        return self.module(*args, **kwargs)

    @torch.no_grad()
    def update(self, student: nn.Module, momentum: float) -> None:
        """theta_t <- m theta_t + (1 - m) theta_s for parameters; buffers are copied.

        Args:
            student: the module this teacher was made from, or a wrapper of it (such as `DistributedDataParallel`).
            momentum: m in [0, 1].

        Raises:
            VidsslError: for a momentum outside, or a student whose parameters are others.
        """
        if not 0.0 <= momentum <= 1.0:
            raise VidsslError(f"teacher: momentum {momentum}: must be in [0, 1]")
        (own, own_buffers), (new, new_buffers) = (
            _parameters_and_buffers(self.module),
            _parameters_and_buffers(student),
        )
        if [tensor.shape for tensor in own] != [tensor.shape for tensor in new]:
            raise VidsslError(
                "teacher: update: the parameters of this student are not those the teacher was made from"
            )
        averaged = [(t, s) for t, s in zip(own, new, strict=True) if t.is_floating_point() and t is not s]
        if averaged:
            targets = cast(list[Tensor], [own_part(t) for t, _ in averaged])
            sources = [own_part(s.detach()).to(t.dtype) for t, s in averaged]
            torch._foreach_lerp_(targets, sources, 1.0 - momentum)
        for target, source in zip(own_buffers, new_buffers, strict=True):
            if target is not source:
                target.copy_(source)


def _parameters_and_buffers(module: nn.Module) -> tuple[list[nn.Parameter], list[Tensor]]:
    """What `parameters()` and `buffers()` give, in their order, in one walk: a frozen image model has hundreds of layers."""
    parameters: dict[nn.Parameter, None] = {}
    buffers: dict[Tensor, None] = {}
    for layer in module.modules():
        parameters.update((x, None) for x in layer._parameters.values() if x is not None)
        buffers.update((x, None) for x in layer._buffers.values() if x is not None)
    return list(parameters), list(buffers)


def cosine_momentum(step: int, total: int, base: float, final: float = 1.0) -> float:
    """Momentum that rises from `base` at step 0 to `final` at step `total` by half a cosine, and stays there.

    m(t) = final - (final - base) (cos(pi t / total) + 1) / 2
    """
    progress = min(step, total) / total if total > 0 else 1.0
    return final - (final - base) * (math.cos(math.pi * progress) + 1.0) / 2.0
