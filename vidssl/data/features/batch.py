"""A batch of kept features: what a `ClipBatch` is where frames have been through an image tower already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from vidssl.data.manifest.quarantine import FailedVideo


@dataclass(frozen=True)
class FeatureBatch:
    """Rows of the frames of every view of B videos; row i of all belongs to the same video.

    Attributes:
        views: per view (B, T_v, R) float32, those of one shape one behind the other in memory.
        times: per view (B, T_v) float32, seconds since the first frame of the video.
        video_id: (B,) int64.
        failures: none: videos without features are left out before a run begins.
    """

    views: list[Tensor]
    times: list[Tensor]
    video_id: Tensor
    failures: Sequence[FailedVideo] = field(default=())

    def __len__(self) -> int:
        return len(self.video_id)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> FeatureBatch:
        """A copy on the device."""

        def moved(tensors: Sequence[Tensor]) -> list[Tensor]:
            return [x.to(device, non_blocking=non_blocking) for x in tensors]

        if torch.device(device) == self.video_id.device:
            return self
        [video_id] = moved([self.video_id])
        return replace(self, views=moved(self.views), times=moved(self.times), video_id=video_id)
