from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from vidssl.evaluation.geometry.drift import feature_drift, weight_drift
from vidssl.evaluation.geometry.layers import cka_matrix
from vidssl.evaluation.geometry.measure import geometry_of, noise_like


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_numbers_are_those_of_independent_formulas() -> None:
    views, shown = (
        noise(0, 30, 3, 6) * torch.tensor([5.0, 3, 2, 1, 1, 0.5]),
        torch.ones(30, 3, dtype=torch.bool),
    )
    found = geometry_of(views, shown)
    x = views.mean(1).numpy()
    values = np.linalg.svd(x, compute_uv=False)
    p = values / values.sum() + 1e-7
    assert found["rankme"] == pytest.approx(math.exp(-(p * np.log(p)).sum()), rel=1e-9)
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    pairs = [np.exp(-2 * ((unit[i] - unit[j]) ** 2).sum()) for i in range(30) for j in range(i)]
    assert found["uniformity"] == pytest.approx(math.log(np.mean(pairs)), rel=1e-9)
    each = (views / views.norm(dim=-1, keepdim=True)).numpy()
    apart = [((each[:, a] - each[:, b]) ** 2).sum(-1).mean() for a, b in ((0, 1), (0, 2), (1, 2))]
    assert found["alignment"] == pytest.approx(np.mean(apart), rel=1e-9)
    assert (found["videos"], found["whole"], found["dimensions"]) == (30, 30, 6)


def test_clips_that_are_there_twice_count_once() -> None:
    views, shown = noise(1, 12, 3, 5), torch.ones(12, 3, dtype=torch.bool)
    shown[:4, 1:] = False
    garbage = views.clone()
    garbage[~shown] = 1e6
    found, clean = geometry_of(garbage, shown), geometry_of(torch.where(shown[..., None], views, 0), shown)
    assert found == clean and found["whole"] == 8
    rows = torch.cat([views[:4, 0], views[4:].mean(1)])
    assert found["rankme"] == pytest.approx(
        geometry_of(rows[:, None], torch.ones(12, 1, dtype=torch.bool))["rankme"]
    )


def test_what_has_no_number_is_null_and_never_flattering() -> None:
    one_view = geometry_of(noise(2, 10, 1, 4), torch.ones(10, 1, dtype=torch.bool))
    assert one_view["alignment"] is None and one_view["lidar"] is None
    constant = geometry_of(torch.ones(10, 2, 4), torch.ones(10, 2, dtype=torch.bool))
    assert constant["spectrum_exponent"] is None and constant["uniformity"] == pytest.approx(0, abs=1e-9)
    assert constant["rankme"] == pytest.approx(1, abs=1e-3)
    rows = noise(2, 10, 2, 4)
    rows[3] = 0  # no direction, and so no angle to others
    zero = geometry_of(rows, torch.ones(10, 2, dtype=torch.bool))
    assert {key for key, value in zero.items() if value is not None} == {"videos", "whole", "dimensions"}
    single = geometry_of(noise(3, 1, 2, 4), torch.ones(1, 2, dtype=torch.bool))
    assert single["uniformity"] is None and single["lidar"] is None


def test_noise_of_this_size_fills_its_dimensions_and_shares_nothing() -> None:
    found = noise_like(torch.zeros(400, 2, 8), torch.ones(400, 2, dtype=torch.bool))
    assert (
        found["rankme"] > 7.9
        and found["alignment"] == pytest.approx(2, abs=0.1)
        and abs(found["spectrum_exponent"]) < 0.2
    )
    assert found == noise_like(torch.ones(400, 2, 8), torch.ones(400, 2, dtype=torch.bool))


def test_cka_of_layers_is_one_with_itself_and_its_rotations_and_none_with_noise() -> None:
    x = noise(4, 200, 6)
    turned = x @ torch.linalg.qr(noise(5, 6, 6))[0] * 3 + 1
    matrix = cka_matrix([x, noise(6, 200, 9)], [turned, torch.ones(200, 2)])
    assert matrix[0][0] == pytest.approx(1) and abs(matrix[1][0]) < 0.1
    assert matrix[0][1] is None  # constant
    broken = x.clone()
    broken[0] = torch.nan
    assert cka_matrix([broken], [turned])[0][0] == pytest.approx(1)
    assert cka_matrix([x[:3]], [turned[:3]]) == [[None]]


class Net(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.stem, self.blocks = (
            nn.Linear(2, 2, bias=False),
            nn.ModuleList([nn.Linear(2, 2, bias=False) for _ in range(2)]),
        )
        for number, layer in enumerate((self.stem, *self.blocks)):
            layer.weight.data = torch.eye(2) * (1 + scale * number)


def test_drift_of_weights_is_their_relative_distance_by_part() -> None:
    found = weight_drift(Net(0.5), Net(0.0))
    assert found["parts"] == pytest.approx({"stem": 0.0, "blocks.0": 0.5, "blocks.1": 1.0})
    assert found["relative"] == pytest.approx(math.sqrt((0.5**2 * 2 + 1.0 * 2) / 6)) and found["new"] == []
    assert weight_drift(Net(0.0), Net(0.0))["relative"] == 0
    grown = Net(0.0)
    grown.head = nn.Linear(2, 2)
    assert weight_drift(grown, Net(0.0))["new"] == ["head.bias", "head.weight"]
    assert weight_drift(grown, Net(0.0))["relative"] == 0


def test_drift_of_features_tells_a_rotation_from_another_space() -> None:
    x = noise(7, 100, 5)
    turned = x @ torch.linalg.qr(noise(8, 5, 5))[0]
    assert feature_drift(x, x) == pytest.approx({"cka": 1, "cosine": 1})
    assert feature_drift(turned, x)["cka"] == pytest.approx(1) and feature_drift(turned, x)["cosine"] < 0.9
    assert feature_drift(x, noise(9, 100, 3)) == {"cka": pytest.approx(0, abs=0.1), "cosine": None}
    assert feature_drift(x[:2], x[:2]) == {"cka": None, "cosine": None}
