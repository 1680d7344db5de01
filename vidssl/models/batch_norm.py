"""Batch norm over the rows of all processes: one process with the whole batch would compute the same."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vidssl.distributed import all_sum, is_distributed
from vidssl.errors import VidsslError


class _GlobalBatchNorm(_BatchNorm):
    """Batch norm over the rows of all processes (Ioffe & Szegedy 2015, arXiv 1502.03167).

    On N processes forward, gradient and running statistics are those of torch's batch norm on one process with the rows
    concatenated, however unevenly they are spread. Two passes, the mean first and then the centred squares, keep the
    variance accurate in float32. Parameters and buffers are named as in torch.
    """

    def forward(self, input: Tensor) -> Tensor:
        """input: (n, C, ...), n may differ between processes. Returns the same shape and dtype."""
        if not (is_distributed() and self.training):
            return super().forward(input)
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        if input.shape[1] != self.num_features:
            raise VidsslError(
                f"batch norm: input of shape {tuple(input.shape)}: must have {self.num_features} channels"
            )
        dims = [0, *range(2, input.ndim)]
        by_channel = (-1, *(1 for _ in dims[1:]))
        with torch.autocast(input.device.type, enabled=False):
            rows = input.to(torch.promote_types(input.dtype, torch.float32))
            count = all_sum(rows.new_tensor(rows[:, 0].numel()))
            mean = all_sum(rows.sum(dim=dims)) / count
            centred = rows - mean.view(by_channel)
            variance = all_sum(centred.square().sum(dim=dims)) / count
            self._track(mean.detach(), variance.detach(), count)
            output = centred * torch.rsqrt(variance + self.eps).view(by_channel)
            if self.affine:
                output = output * self.weight.view(by_channel) + self.bias.view(by_channel)
        return output.to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Running statistics, with the unbiased variance as in torch."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return  # track_running_stats=False
        self.num_batches_tracked.add_(1)
        share = 1 / self.num_batches_tracked.to(mean) if self.momentum is None else self.momentum
        unbiased = variance * (count / (count - 1).clamp(min=1))
        self.running_mean.copy_((1 - share) * self.running_mean + share * mean)
        self.running_var.copy_((1 - share) * self.running_var + share * unbiased)


class GlobalBatchNorm1d(_GlobalBatchNorm, nn.BatchNorm1d):
    """`nn.BatchNorm1d` over the rows (n, C) or (n, C, L) of all processes."""


class GlobalBatchNorm2d(_GlobalBatchNorm, nn.BatchNorm2d):
    """`nn.BatchNorm2d` over the pictures (n, C, H, W) of all processes."""


class GlobalBatchNorm3d(_GlobalBatchNorm, nn.BatchNorm3d):
    """`nn.BatchNorm3d` over the clips (n, C, T, H, W) of all processes."""


GLOBAL: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: GlobalBatchNorm1d,
    nn.BatchNorm2d: GlobalBatchNorm2d,
    nn.BatchNorm3d: GlobalBatchNorm3d,
}


def has_batch_norm(module: nn.Module) -> bool:
    """Whether statistics of a batch are taken anywhere in a module."""
    return any(isinstance(layer, _BatchNorm) for layer in module.modules())


def takes_statistics(module: nn.Module) -> bool:
    """Whether a module, as it is now, takes the statistics of its batch, so that it has to see all of it at once."""
    return any(isinstance(layer, _BatchNorm) and layer.training for layer in module.modules())


def is_frozen_norm(layer: nn.Module) -> bool:
    """Whether a layer is a batch norm whose weights do not learn: what it was frozen with are its running statistics too."""
    parameters = list(layer.parameters(recurse=False))
    return isinstance(layer, _BatchNorm) and bool(parameters) and not any(p.requires_grad for p in parameters)


def share_statistics(module: nn.Module) -> None:
    """Let all batch norm of a module, in place, use the rows of all processes; nothing changes on one process.

    Raises:
        VidsslError: on several processes, for a batch norm that is none of torch's plain ones.
    """
    for layer in module.modules():
        if type(layer) in GLOBAL:
            layer.__class__ = GLOBAL[type(layer)]  # parameters, buffers and hooks stay
        elif isinstance(layer, _BatchNorm) and not isinstance(layer, _GlobalBatchNorm) and is_distributed():
            raise VidsslError(
                f"batch norm: {type(layer).__name__} would take the statistics of each process by itself; "
                "train this encoder on one process"
            )
