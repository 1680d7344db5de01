"""Features that are kept to train on: what evaluation shows, draws of a view, places; and what cannot be read is named."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import vidssl
from tests.command_line import Run
from vidssl.data.encode import write_video
from vidssl.data.features.store import read_features
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.views.spec import ViewSpec
from vidssl.errors import VidsslError
from vidssl.evaluation import EvalOptions, extract_draws
from vidssl.evaluation.features.means import extract_features
from vidssl.evaluation.results.schema import mistake
from vidssl.evaluation.setup import load_subject

VIEW = ViewSpec("global", 2, 4, size=32, scale=(0.3, 0.6), jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=1.0)
OPTIONS = EvalOptions(frames=4, size=32, workers=0, device="cpu", cache=False)


@pytest.fixture
def data(tmp_path: Path, sprites: Path) -> Path:
    """Two rendered videos, one of another shape, and one that is none."""
    folder = tmp_path / "data"
    folder.mkdir()
    videos = VideoIndex.read(sprites / "val")
    shutil.copy(videos.path(0), folder / "a.mp4")
    (folder / "b.mp4").write_bytes(b"was never a video")
    frames = np.random.default_rng(0).integers(0, 255, (30, 48, 64, 3), dtype=np.uint8)
    write_video(folder / "c.mp4", frames, 10)
    return folder


def test_the_first_draw_is_what_evaluation_shows_and_the_others_are_draws(
    tiny_clip: Path, data: Path, tmp_path: Path
) -> None:
    source, output = f"local-dir:{tiny_clip}", tmp_path / "f" / "a.safetensors"
    record = extract_draws(source, data, output, view=VIEW, grid=2, options=OPTIONS)
    assert json.loads(output.with_suffix(".json").read_text()) == json.loads(json.dumps(record))
    assert mistake(json.loads(json.dumps(record))) is None
    store = read_features(output)
    assert store.index.paths == ("a.mp4", "c.mp4")
    [failed] = store.failed
    assert failed.path == "b.mp4"
    assert failed.reason == record["videos"][1]["reason"] != ""
    encoder = vidssl.load_encoder(source)
    options = EvalOptions(frames=4, size=32, seconds=math.inf, workers=0, device="cpu", cache=False)
    found = extract_features(load_subject(source, options), VideoIndex.read(data), description="test")
    for place, video in enumerate((0, 2)):
        rows = store.rows(place)
        assert rows.shape == (3, 4, encoder.embed_dim + 4 * encoder.width)
        with torch.no_grad():
            clips = encoder(rows[:, :, : encoder.embed_dim].clone()).clip
        torch.testing.assert_close(clips[0], found.features["trained"][video], atol=1e-5, rtol=0)
        apart = torch.cdist(rows.flatten(1), rows.flatten(1)) + 9 * torch.eye(3)
        assert apart.min() > 1e-2  # no two draws are alike
    again = extract_draws(source, data, tmp_path / "b.safetensors", view=VIEW, grid=2, options=OPTIONS)
    other = extract_draws(
        source, data, tmp_path / "c.safetensors", view=VIEW, grid=2, seed=1, options=OPTIONS
    )
    assert again == record
    same, changed = (read_features(tmp_path / f"{name}.safetensors").rows(0) for name in "bc")
    assert torch.equal(same, store.rows(0))
    assert torch.equal(changed[0], same[0])
    assert not torch.equal(changed[1], same[1])
    assert other["rows"]["seed"] == 1


def test_frames_at_a_rate(tiny_clip: Path, data: Path, tmp_path: Path) -> None:
    output = tmp_path / "a.safetensors"
    extract_draws(
        f"local-dir:{tiny_clip}", data, output, view=VIEW, grid=0, rate=4.0, half=True, options=OPTIONS
    )
    store = read_features(output)
    assert store.rows(1).shape == (3, 12, 32)  # three seconds
    assert store.rows(1).dtype == torch.float16
    np.testing.assert_allclose(
        np.diff(store.times[1]), 0.25, atol=0.051
    )  # of frames a tenth of a second apart


def test_features_are_not_replaced_by_fewer_and_wrong_requests_leave_nothing(
    tiny_clip: Path, data: Path, tmp_path: Path
) -> None:
    source, output = f"local-dir:{tiny_clip}", tmp_path / "a.safetensors"
    extract_draws(source, data, output, view=VIEW, options=OPTIONS)
    before = output.read_bytes()
    (data / "c.mp4").write_bytes(b"torn")
    with pytest.raises(VidsslError, match=r"features of 1 video that could not be read now, such as c\.mp4"):
        extract_draws(source, data, output, view=VIEW, options=OPTIONS)
    assert output.read_bytes() == before
    torch.manual_seed(0)
    divided = vidssl.create_model(source, temporal="divided", load_text=False)
    from vidssl.models.export import save_encoder

    for model, said, changes in (
        (save_encoder(divided, tmp_path / "divided"), "does not see one frame at a time", {}),
        (source, "grid", {"grid": -1}),
        (source, "rate", {"rate": 0.0}),
    ):
        with pytest.raises(VidsslError, match=said):
            extract_draws(model, data, tmp_path / "x.safetensors", view=VIEW, options=OPTIONS, **changes)
        assert not list(tmp_path.glob("x.*"))


def test_the_command_writes_them_and_says_what_does_not_go_together(
    vidssl: Run, tiny_clip: Path, data: Path, tmp_path: Path
) -> None:
    command = ["extract", f"local-dir:{tiny_clip}", str(data), str(tmp_path / "a.safetensors")]
    code, out, _ = vidssl(
        *command,
        "--draws",
        "2",
        "--frames",
        "3",
        "--grid",
        "1",
        "--view",
        "scale=[0.5, 0.9]",
        "--workers",
        "0",
    )
    assert code == 0
    assert "features of frames of 2 of 3 videos" in out
    assert "3 draws" in out
    assert "b.mp4" in out
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["rows"]["view"]["scale"] == [0.5, 0.9]
    assert record["rows"]["view"]["flip"] == 0.5
    for more, said in (
        (["--grid", "2"], "--grid: is of features to train on; give --draws too"),
        (["--draws", "2", "--patches"], "--patches: together with --draws"),
        (["--draws", "2", "--view", "scael=1"], "did you mean 'scale'"),
        (["--draws", "2", "--view", "seconds=1"], "--view seconds: is of training"),
    ):
        code, _, error = vidssl(*command, *more)
        assert code == 2
        assert said in error
