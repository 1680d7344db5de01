"""A list of training labels that is off by one is named by every probe, with the offset; so is accuracy at chance. Honest lists are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vidssl.evaluation.features import FeatureSet
from vidssl.evaluation.probes import knn, linear
from vidssl.evaluation.probes.splits import Splits
from vidssl.evaluation.setup import EvalOptions, Subject

CLASSES = 9


def notes_of(task: str, train_labels: Tensor, noise: float = 0.2, **how: Any) -> list[str]:
    """What is said of 15 videos of each class in both splits, made-up features."""
    rng = torch.Generator().manual_seed(0)
    y = torch.arange(CLASSES).repeat(15)
    centres = torch.randn(CLASSES, 16, generator=rng)
    train, test = (centres[y] + noise * torch.randn(len(y), 16, generator=rng) for _ in range(2))
    ok = torch.ones(len(y), dtype=torch.bool)
    both = [FeatureSet({"trained": rows}, {"trained": ok}, (), 0) for rows in (train, test)]
    names = tuple(str(label) for label in range(CLASSES))
    splits = Splits(names, *both, train_labels, y, {"notes": [], "train": {}})
    subject = Subject(Path("x"), nn.Identity(), None, EvalOptions(), torch.device("cpu"))
    if task == "knn":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(knn, "result_header", lambda *_: {})
            return list(knn._measured(subject, splits, (5,), 0.07)["notes"])
    return list(linear._fitted(splits, subject.device, linear.LinearOptions(**how))["notes"])


@pytest.mark.parametrize("task", ["knn", "linear-probe"])
@pytest.mark.parametrize("offset", [0, 1, -1])
def test_shifted_training_labels_are_named_with_their_offset(task, offset):
    notes = notes_of(task, (torch.arange(CLASSES).repeat(15) + offset) % CLASSES)
    said = [line for line in notes if "shifted by" in line]
    if offset == 0:
        assert not said and not any("chance" in line for line in notes)
        return
    [line] = said
    assert line.startswith("trained")
    assert f"shifted by {offset % CLASSES}" in line and "in the list of 9 classes: 135 answers fit" in line
    assert ("(or 1 the other way round)" in line) == (offset == -1)


@pytest.mark.parametrize("task", ["knn", "linear-probe"])
def test_labels_in_random_order_are_at_chance(task):
    labels = torch.arange(CLASSES).repeat(15)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(labels)))
    notes = notes_of(task, labels[order], noise=3.0)
    assert any("cannot be told from chance" in line for line in notes)
    assert not any("shifted" in line for line in notes)
