"""Videos of two sets that look like one, though their files differ: re-encoded, resized, or cut from one recording.

What tells them is where and when pixels change (`vidssl.evaluation.features.sources.motion_energy`), which a network is not needed for. Of 12 clips
that were halved in size and compressed hard, distances were 0.08 to 0.24, of 2,300 pairs of other clips of three sets 0.23 (two
clips of one recording) and at least 0.41.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidssl.evaluation.features.means import FeatureSet

ALIKE = (
    0.3  # distance of motion maps, as a share of the length of the shorter, up to which two videos look alike
)
ROOM = 2**26  # distances at a time, 256 MiB: sets of the size of Kinetics have billions


def look_alikes(first: FeatureSet, second: FeatureSet, room: int = ROOM) -> list[tuple[int, int]]:
    """Videos of `second` whose motion looks like that of one of `first`; those in which nothing moves look like none.

    Args:
        first, second: with motion, shown alike: N and M videos.
        room: numbers that are held at a time.

    Returns:
        (row of `first`, row of `second`), in the order of `second`, the first being the nearest.
    """
    (ours, own_length), (theirs, length) = _maps(first), _maps(second)
    found, chunk = [], max(1, room // max(1, len(ours)))
    for start in range(0, len(theirs), chunk):
        rows = slice(start, start + chunk)
        shorter = torch.minimum(own_length[None], length[rows, None])
        # By 0 where it cannot be told, which is infinite or no number.
        distance = torch.cdist(theirs[rows], ours).div_(shorter)
        nearest, place = distance.nan_to_num_(nan=torch.inf).min(dim=1)
        found += [(int(place[row]), start + row) for row in (nearest <= ALIKE).nonzero()[:, 0].tolist()]
    return found


def _maps(features: FeatureSet) -> tuple[Tensor, Tensor]:
    """(N, D) motion without its mean, which the noise of a camera raises, and lengths (N,), 0 where it cannot be told."""
    rows = features.features["motion"].double()
    centred = rows - rows.mean(dim=1, keepdim=True)
    length = centred.norm(dim=1)
    told = features.ok["motion"] & (length > 1e-6 * rows.norm(dim=1))
    return centred.float(), torch.where(told, length, 0.0).float()
