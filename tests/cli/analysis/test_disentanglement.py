"""`vidssl disentangle` as the user types it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.command_line import one_line
from vidssl.data.encode import write_video
from vidssl.synthetic.factors.scenes import factor_clips, sample_table
from vidssl.synthetic.factors.table import write_factors

pytestmark = pytest.mark.usefixtures("few_batches")
FAST = ("--frames", 4, "--size", 16, "--device", "cpu", "--workers", 0)


@pytest.fixture
def few_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vidssl.evaluation.disentanglement.measure.BATCHES", (50, 50, 8))


@pytest.fixture(scope="module")
def factor_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 clips, of which one is damaged and one is not there."""
    folder = tmp_path_factory.mktemp("factor-videos")
    table = sample_table("sprites", 24, seed=0)
    for number, path in enumerate(table.paths):
        if number == 3:
            (folder / path).write_bytes(b"no video")
        elif number != 5:
            write_video(folder / path, factor_clips("sprites", table.values[[number]], 4, 16)[0], 8)
    write_factors(folder, table, {})
    return folder


def test_rendered_clips_of_a_named_model(vidssl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = vidssl("disentangle", "conv3d/small", "--clips", 40, *FAST)
    assert code == 0, err
    assert "conv3d/small on sprites: 40 clips, 128 dimensions, 20 bins" in out
    (folder,) = (tmp_path / "results").iterdir()
    assert folder.name.startswith("disentangle-conv3d-small-rendered-sprites-")
    assert f"results/{folder.name}" in out
    result = json.loads((folder / "disentangle.json").read_text())
    assert result["figures"] == ["disentangle_information.png", "disentangle_best.png"]
    assert all((folder / name).is_file() for name in result["figures"])
    assert set(result["would_say_if"]) == {"labels permuted", "axes rotated", "ideal code"}
    assert result["data"]["scene"] == "sprites" and result["task"] == "disentangle"
    assert set(result["rows"]["encoder"]["groups"]) == {"all", "static", "motion"}


def test_videos_of_a_run_stand_beside_the_untrained_encoder(vidssl, checkpoint, factor_videos, tmp_path):
    code, out, err = vidssl(
        "disentangle",
        checkpoint,
        factor_videos,
        "--bins",
        5,
        "--no-plots",
        "--output",
        tmp_path / "out",
        *FAST[:2],
        *FAST[4:],
    )
    assert code == 0, err
    assert "22 clips" in out and "untrained" in out and "left out: 2 of 24 clips" in out
    assert "000003.mp4" in out and "000005.mp4" in out
    result = json.loads((tmp_path / "out" / "disentangle.json").read_text())
    assert [Path(x["path"]).name for x in result["data"]["failed"]] == ["000003.mp4", "000005.mp4"]
    assert list(result["rows"])[:2] == ["encoder", "untrained"] and set(result["other_scores"]) == {
        "encoder",
        "untrained",
    }
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["disentangle.json"]


def test_mistakes_are_one_line(vidssl, factor_videos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for arguments, said in [
        (
            ("conv3d/small", factor_videos, "--scene", "sprites"),
            "--scene and --clips are of clips that are rendered",
        ),
        (("conv3d/small", "--scene", "sprits"), "did you mean 'sprites'"),
        (("conv3d/small", "--clips", 10), "10 clips for 20 bins"),
        (("conv3d/small", tmp_path / "empty"), "no factors.csv"),
        (("conv3d/smal", "--clips", 40), "did you mean"),
    ]:
        assert said in one_line(*vidssl("disentangle", *arguments, *FAST)), arguments
    assert not (tmp_path / "results").exists()


def test_without_scikit_learn_the_rest_is_measured(vidssl, tmp_path, monkeypatch):
    import sys

    for name in ("base", "linear_model", "metrics"):
        monkeypatch.setitem(sys.modules, f"sklearn.{name}", None)
    common = ("disentangle", "conv3d/small", "--clips", 40, "--no-plots", "--output", tmp_path / "out", *FAST)
    code, out, _ = vidssl(*common)
    assert (
        code == 0
        and "explicitness is left out: this score needs scikit-learn" in out
        and "vidssl[probes]" in out
    )
    scores = json.loads((tmp_path / "out" / "disentangle.json").read_text())["other_scores"]["encoder"]
    assert scores["explicitness"] is None and np.isfinite(scores["mig"])
    assert "vidssl[probes]" in one_line(*vidssl(*common, "--all"))
