"""`vidssl interpolate` on the layout of a run folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import vidssl
from tests.tiny_clip import trained_and_initial
from vidssl.errors import VidsslError
from vidssl.evaluation.interpolation import interpolate_run
from vidssl.models.encoder import VideoEncoder
from vidssl.models.export import save_encoder
from vidssl.models.interpolate import interpolate


@pytest.fixture(scope="module")
def ends(tiny_clip) -> tuple[VideoEncoder, VideoEncoder]:
    return trained_and_initial(tiny_clip)


@pytest.fixture(scope="module")
def clips() -> torch.Tensor:
    return torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))


def test_a_run_with_its_own_start(ends, clips, tmp_path):
    """The layout of a run folder; the result loads as any export does."""
    trained, initial = ends
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text("output: run\n")
    save_encoder(initial, run / "initial")
    save_encoder(trained, run / "encoder")
    record = interpolate_run(run, run / "half", 0.5)
    assert record["other"] == str(run / "initial")
    half = vidssl.load(run / "half")
    assert half.spec["interpolated"] == {"alpha": 0.5}
    with torch.no_grad():
        assert torch.equal(half(clips).clip, interpolate(trained, initial, 0.5)(clips).clip)
    for own in ("encoder", "initial"):
        with pytest.raises(VidsslError, match=f"run/{own}: is what is read; write to another"):
            interpolate_run(run, run / own, other=run / "half")
    save_encoder(trained, tmp_path / "alone")
    with pytest.raises(VidsslError, match="--other"):
        interpolate_run(tmp_path / "alone", tmp_path / "mixed")
    assert not Path(tmp_path / "mixed").exists()
    interpolate_run(tmp_path / "alone", tmp_path / "mixed", 1.0, other=run / "initial")
    assert torch.equal(vidssl.load(tmp_path / "mixed").visual.proj, trained.visual.proj)
