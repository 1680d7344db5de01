from __future__ import annotations

from pathlib import Path

import pytest
import torch

import vidssl
from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.run.options import TrackOptions
from vidssl.evaluation.tracking.run.sources import load_sources, random_twin
from vidssl.models.export import save_encoder


def test_the_rows_have_cells_of_one_size(tiny_clip: Path, tmp_path: Path) -> None:
    model = vidssl.create_model(f"local-dir:{tiny_clip}", load_text=False)
    sources = load_sources(save_encoder(model, tmp_path / "encoder"), TrackOptions(device="cpu"))
    assert [row.name for row in sources.rows] == ["encoder", "random weights", "raw pixels"]
    assert {row.stride for row in sources.rows} == {8}
    frames = torch.rand(2, 3, 40, 48)
    shapes = [tuple(row.features(frames).shape) for row in sources.rows]
    assert [shape[0:1] + shape[2:] for shape in shapes] == 3 * [(2, 5, 6)]
    assert [shape[1] for shape in shapes] == [row.dim for row in sources.rows]


def test_a_run_has_the_encoder_it_started_from_beside_it(checkpoint_run: Path) -> None:
    sources = load_sources(checkpoint_run, TrackOptions(device="cpu"))
    assert [row.name for row in sources.rows] == ["encoder", "untrained", "random weights", "raw pixels"]


def test_the_random_twin_is_another_network_and_always_the_same(tiny_clip: Path) -> None:
    model = vidssl.load_encoder(f"local-dir:{tiny_clip}")
    state = torch.get_rng_state()
    first, again, other = random_twin(model), random_twin(model), random_twin(model, seed=1)
    assert torch.equal(state, torch.get_rng_state())
    clips = torch.rand(1, 3, 1, 32, 32)
    with torch.no_grad():
        a, b, c, trained = (one(clips).clip for one in (first, again, other, model))
    assert torch.equal(a, b) and not torch.allclose(a, c) and not torch.allclose(a, trained)


def test_the_random_twin_of_random_weights_is_not_their_copy() -> None:
    encoder = vidssl.load_encoder("conv3d/small")
    twin = random_twin(encoder)
    pairs = zip(encoder.parameters(), twin.parameters(), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs)


def test_a_stride_or_layer_that_is_not_there_is_named(tiny_clip: Path) -> None:
    for wrong in ({"layer": 9}, {"stride": 99}):
        with pytest.raises(VidsslError, match=f"{next(iter(wrong))}={next(iter(wrong.values()))}: must be"):
            load_sources(f"local-dir:{tiny_clip}", TrackOptions(device="cpu", **wrong))
