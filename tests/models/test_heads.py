"""Projectors and predictors."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from vidssl.errors import VidsslError
from vidssl.models.encoder import ClipFeatures
from vidssl.models.heads import MLPHead, ProjectionHead, Prototypes


def test_layers_of_an_mlp() -> None:
    head = MLPHead(5, [7, 6, 4], norm="batch", last_norm=True)
    names = [type(layer).__name__ for layer in head.layers]
    middle = ["Linear", "GlobalBatchNorm1d", "ReLU"]
    assert names == [*middle, *middle, "Linear", "GlobalBatchNorm1d"]
    linears = [layer for layer in head.layers if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linears] == [(5, 7), (7, 6), (6, 4)]
    assert all(layer.bias is None for layer in linears)
    plain = MLPHead(5, [7, 4], norm="none", last_bias=True)
    assert [type(layer).__name__ for layer in plain.layers] == ["Linear", "ReLU", "Linear"]
    assert all(layer.bias is not None for layer in plain.layers if isinstance(layer, nn.Linear))
    assert [type(layer).__name__ for layer in MLPHead(5, [4]).layers] == ["Linear"]


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
def test_leading_axes_are_rows(norm: str) -> None:
    head = MLPHead(5, [7, 4], norm=norm).double()
    x = torch.randn(2, 3, 5, dtype=torch.float64)
    torch.testing.assert_close(head(x), head(x.flatten(0, 1)).unflatten(0, (2, 3)), atol=1e-12, rtol=0)
    assert head(x[:, :0]).shape == (2, 0, 4) if norm != "batch" else True


def test_mlp_by_hand() -> None:
    head = MLPHead(5, [7, 4], norm="layer").double()
    x = torch.randn(3, 5, dtype=torch.float64)
    first, norm, _, last = head.layers
    assert isinstance(first, nn.Linear)
    assert isinstance(norm, nn.LayerNorm)
    assert isinstance(last, nn.Linear)
    hidden = x @ first.weight.T
    hidden = (hidden - hidden.mean(1, keepdim=True)) / torch.sqrt(
        hidden.var(1, keepdim=True, unbiased=False) + norm.eps
    )
    torch.testing.assert_close(head(x), hidden.clamp(min=0) @ last.weight.T, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"dims": []}, "at least one layer"),
        ({"dims": [4, 0]}, "at least 1"),
        ({"dims": [4], "norm": "bacth"}, "did you mean 'batch'?"),
        ({"dims": [4], "norm": "none", "last_norm": True}, "last_norm"),
    ],
)
def test_wrong_mlps(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(VidsslError) as error:
        MLPHead(5, **arguments)
    assert words in str(error.value)


def test_projection_head() -> None:
    features = ClipFeatures(torch.randn(4, 5), torch.randn(4, 3, 5), None)
    plain = ProjectionHead(5, [8, 6])(features)
    assert plain.projection.shape == (4, 6)
    assert plain.prediction is None
    assert plain.frames is None
    head = ProjectionHead(5, [8, 6], [9, 6], frames=True, norm="layer")
    output = head(features)
    assert output.prediction is not None
    assert output.frames is not None
    assert output.frames.shape == (4, 3, 6)
    assert head.predictor is not None
    assert torch.equal(output.prediction, head.predictor(output.projection))
    with pytest.raises(VidsslError, match="must end in the projector's size 6"):
        ProjectionHead(5, [8, 6], [9, 5])
    with pytest.raises(VidsslError, match="predictor"):
        ProjectionHead(5, [8, 6], [])


def test_prototypes_are_the_weight_norm_of_dino() -> None:
    """Cosines, equal to a linear layer with torch's weight norm, gain 1, on rows of length 1."""
    layer, rows = Prototypes(6, 9).double(), torch.randn(4, 3, 6, dtype=torch.float64)
    twin = nn.utils.parametrizations.weight_norm(nn.Linear(6, 9, bias=False).double())
    with torch.no_grad():
        twin.parametrizations.weight.original0.fill_(1)
        twin.parametrizations.weight.original1.copy_(layer.weight)
    expected = twin(rows / rows.norm(dim=-1, keepdim=True))
    torch.testing.assert_close(layer(rows), expected, rtol=1e-12, atol=1e-12)
    assert layer(rows).abs().max() <= 1
    assert torch.allclose(layer(7 * rows), layer(rows))
    head = ProjectionHead(5, [8, 6], norm="none", prototypes=9)
    assert head(ClipFeatures(torch.randn(4, 5), torch.randn(4, 3, 5), None)).projection.shape == (4, 9)
    for options in ({"predictor": [8, 6]}, {"frames": True}):
        with pytest.raises(VidsslError, match="prototypes: is for a head without a predictor or frames"):
            ProjectionHead(5, [8, 6], prototypes=9, **options)
    with pytest.raises(VidsslError, match="prototypes=0: must be at least 1"):
        ProjectionHead(5, [8, 6], prototypes=0)


def test_frames_do_not_touch_the_clip_statistics() -> None:
    head = ProjectionHead(5, [8, 6], frames=True)
    alone = copy.deepcopy(head)
    clips = torch.randn(4, 5)
    head(ClipFeatures(clips, 100 + torch.randn(4, 3, 5), None))
    alone(ClipFeatures(clips, torch.randn(4, 3, 5), None))
    first, second = head.projector.state_dict(), alone.projector.state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
