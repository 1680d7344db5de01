"""Videos that look like one in two sets: found when re-encoded, not taken for one when they are others."""

from __future__ import annotations

import numpy as np
import torch

from vidssl.evaluation.features.alike import look_alikes
from vidssl.evaluation.features.means import FeatureSet


def of(motion, ok=None):
    rows = torch.as_tensor(motion, dtype=torch.float32)
    fine = torch.ones(len(rows), dtype=torch.bool) if ok is None else torch.tensor(ok)
    return FeatureSet({"motion": rows}, {"motion": fine}, (), 0)


def test_the_nearest_is_named_whatever_the_noise_of_the_camera():
    generator = np.random.default_rng(0)
    ours, theirs = generator.random((40, 256)), generator.random((30, 256))
    theirs[3] = ours[7] + 0.02 * generator.normal(size=256)
    theirs[9] = ours[5] + 0.4  # noise all over the picture
    expected = []
    for row, x in enumerate(theirs):  # by hand
        x = x - x.mean()
        away = [
            np.linalg.norm(x - (y - y.mean())) / min(np.linalg.norm(x), np.linalg.norm(y - y.mean()))
            for y in ours
        ]
        if min(away) <= 0.3:
            expected.append((int(np.argmin(away)), row))
    assert (
        look_alikes(of(ours), of(theirs))
        == look_alikes(of(ours), of(theirs), room=160)
        == expected
        == [(7, 3), (5, 9)]
    )


def test_what_does_not_move_or_cannot_be_read_looks_like_nothing():
    rows = torch.rand(3, 256)
    still, level = torch.zeros(1, 256), torch.full((1, 256), 0.3)
    assert look_alikes(of(torch.cat([still, level])), of(torch.cat([still, level]))) == []
    assert look_alikes(of(rows), of(rows, [True, False, True])) == [(0, 0), (2, 2)]
