from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from einops import rearrange, reduce
from torch import Tensor

from vidssl.data.encode import write_video
from vidssl.errors import VidsslError
from vidssl.evaluation import EvalOptions
from vidssl.evaluation.results.schema import mistake
from vidssl.evaluation.setup import Subject
from vidssl.evaluation.temporal import report
from vidssl.evaluation.temporal.ways import BAG, CLIP, FAST, FAST_BAG, FRAME, REVERSED, SHUFFLED, shown_ways
from vidssl.evaluation.temporal.windows import Shown, _start
from vidssl.models.encoder import ClipFeatures, VideoEncoder
from vidssl.synthetic.noise import NOISE_CLASSES, noise_clip

SHIFTS = [(y, x) for y in range(-3, 4) for x in range(-3, 4)]


class Planted(VideoEncoder):
    """An encoder without weights: `look` makes (B, D) of clips."""

    def __init__(self, look: Any, sees: str = "clip") -> None:
        spec = {
            "name": "planted",
            "pretrained": "by hand",
            "sampling": {"frames": 4, "stride": 1, "size": 32},
        }
        super().__init__(embed_dim=4, width=4, mean=(0.5,) * 3, std=(0.25,) * 3, image_size=32, spec=spec)
        self.look, self.sees = look, sees

    def features(self, clips: Tensor, patches: bool, keys: Tensor | None = None) -> ClipFeatures:
        frames = torch.stack([self.look(clips[:, :, t : t + 1]) for t in range(clips.shape[2])], dim=1)
        return ClipFeatures(frames.mean(1) if self.sees == "frame" else self.look(clips), frames, None)


def motion(clips: Tensor) -> Tensor:
    """How well each shift explains each frame by the one before it."""
    grey = clips.mean(1)
    if grey.shape[1] < 2:
        return grey.new_zeros(len(grey), len(SHIFTS))
    found = [(grey[:, 1:] * grey[:, :-1].roll(shift, (2, 3))).mean((1, 2, 3)) for shift in SHIFTS]
    return torch.stack(found, dim=1)


def texture(clips: Tensor) -> Tensor:
    """What the frame in the middle looks like: how neighbours of each direction and distance correlate in it."""
    grey = clips.mean(1)[:, clips.shape[2] // 2]
    return torch.stack([(grey * grey.roll(shift, (1, 2))).mean((1, 2)) for shift in SHIFTS], dim=1)


def blurred(clips: Tensor) -> Tensor:
    """The same of the mean over frames, whose second order knows the axis of motion."""
    return texture(clips.mean(2, keepdim=True))


def asked(
    monkeypatch: pytest.MonkeyPatch, look: Any, data: Path | None = None, **others: Any
) -> dict[str, Any]:
    options = EvalOptions(workers=0, batch_size=16, device="cpu", clips=1)
    subject = lambda _, options: Subject(Path("planted"), Planted(look), None, options, torch.device("cpu"))  # noqa: E731
    monkeypatch.setattr(report, "load_subject", subject)
    result = report.temporal("planted", data, options=options, **others)
    assert mistake(result) is None
    return result


def bounds(result: dict[str, Any], name: str) -> tuple[float, float]:
    low, high = result["scores"][name]["top1_interval"]
    return low, high


def test_on_noise_motion_is_all_and_single_frames_are_chance(monkeypatch) -> None:
    found = asked(monkeypatch, motion, clips=10)
    scores = found["scores"]
    assert scores["trained, classes"]["top1"] > 0.9 and scores["chance, classes"]["top1"] == 0.25
    for way in (FRAME, BAG):  # of a still clip there is no motion: constant features, so chance
        assert scores[f"trained, classes, {way}"]["top1"] == pytest.approx(
            0.25, abs=0.27
        )  # four deviations of 40 videos
    assert bounds(found, "trained, frame order")[0] > 0.7 and bounds(found, "trained, speed")[0] > 0.7
    low, high = bounds(
        found, "trained, playback direction"
    )  # what plays backwards is another drift of the set
    assert low <= 0.55 and high >= 0.45
    lost = found["gaps"]["trained, classes"][f"trained, classes, {FRAME}"]
    right = found["answers"]["right"]["trained, classes"]
    assert sum(right) / 40 == scores["trained, classes"]["top1"]  # by which `compare` pairs
    assert lost["interval"][0] > 0.4 and lost["p"] < 1e-6
    assert found["data"]["path"] == report.RENDERED and found["data"]["failed"] == []
    assert (found["folds"], found["fitted_on"], found["data"]["videos"]) == (None, 40, 40)


def test_an_encoder_of_single_frames_knows_nothing_of_it(monkeypatch) -> None:
    found = asked(monkeypatch, texture, clips=12)
    for question, chance in (
        ("classes", 0.25),
        (f"classes, {FRAME}", 0.25),
        (f"classes, {BAG}", 0.25),
        ("frame order", 0.5),
    ):
        low, high = bounds(found, f"trained, {question}")
        assert low <= chance + 0.05 and high >= chance - 0.05, question
    for question in ("frame order", "playback direction"):
        assert found["scores"][f"trained, {question}, {BAG}"]["top1"] == 0.5  # the same frames in any order


def test_means_over_frames_leak_the_axis_and_the_table_says_so(monkeypatch) -> None:
    found = asked(monkeypatch, blurred, clips=12)
    top1 = found["scores"]["trained, classes"]["top1"]
    assert abs(top1 - 0.5) < 4 * 0.08  # the axis and not the sign; deviations of 48 videos
    assert found["scores"]["trained, frame order"]["top1"] == 0.5
    assert found["scores"]["trained, playback direction"]["top1"] == 0.5


def test_videos_without_labels_and_videos_that_are_too_short(monkeypatch, tmp_path) -> None:
    import numpy as np

    for number in range(6):
        clip = noise_clip("drifting_up", np.random.default_rng(number), 8 if number else 5, 32)
        write_video(tmp_path / f"{number}.mp4", clip, fps=8, lossless=True)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    found = asked(monkeypatch, motion, tmp_path)
    assert "classes" not in found and not any("classes" in name for name in found["scores"])
    assert found["scores"]["trained, frame order"]["total"] == 7
    assert found["scores"]["trained, frame order"]["failed"] == 1
    assert found["scores"]["trained, speed"]["total"] == 5
    assert [Path(x["path"]).name for x in found["data"]["failed"]] == ["broken.mp4"]
    assert any("2 of 7 videos have too few frames" in note for note in found["notes"])


def test_each_way_is_what_its_name_says() -> None:
    numbers = torch.arange(8).float().reshape(1, 1, 8, 1, 1).expand(2, 3, 8, 2, 2)
    encoder = Planted(lambda clips: reduce(clips, "b c t h w -> b t", "mean"))
    found = {way: rows.tolist() for way, rows in shown_ways(encoder, numbers, [2, 0], [5, 9]).items()}
    assert found[CLIP] == [[2, 3, 4, 5], [0, 1, 2, 3]] and found[REVERSED] == [[5, 4, 3, 2], [3, 2, 1, 0]]
    assert found[FAST] == [[0, 2, 4, 6]] * 2 and found[FRAME] == [[4] * 4, [2] * 4]
    assert found[BAG] == [[3.5] * 4, [1.5] * 4] and found[FAST_BAG] == [[3.0] * 4] * 2
    assert sorted(found[SHUFFLED][0]) == [2, 3, 4, 5] and found[SHUFFLED][0] != found[CLIP][0]
    again = shown_ways(encoder, numbers[:1], [2], [5])[SHUFFLED].tolist()
    assert again == found[SHUFFLED][:1]  # whatever else is in the batch


def test_where_frames_are_seen_one_by_one_the_short_cut_is_the_same() -> None:
    windows = torch.randn(3, 3, 8, 4, 4, generator=torch.Generator().manual_seed(0))
    look = lambda clips: rearrange(clips, "b c t h w -> b t (c h w)").mean(1)[:, :6]  # noqa: E731
    short, plain = (
        shown_ways(Planted(look, sees), windows, [2, 1, 0], [0, 1, 2]) for sees in ("frame", "clip")
    )
    for way, rows in plain.items():
        torch.testing.assert_close(short[way], rows, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("indices", "start"),
    [
        (range(8), 2),
        ([0, 1, 2, 3, 4, 5, 5, 5], 1),  # six frames, the last held
        ([0, 1, 2, 3, 3, 3, 3, 3], 0),
        ([0, 0, 0, 0, 0, 0, 0, 0], 0),
        ([0, 0, 1, 1, 2, 2, 3, 3], 1),  # spread over what there is
    ],
)
def test_the_clip_is_the_middle_of_what_there_is(indices, start) -> None:
    assert _start(torch.tensor(list(indices))) == start


def test_features_that_are_the_same_for_all_videos_are_said_to_be() -> None:
    ok = torch.tensor([True, True, False])
    same, other = torch.ones(3, 4), torch.rand(3, 4)
    features = {"trained": {"clip": same, "frame": same.clone()}, "untrained": {"clip": same, "frame": other}}
    shown = Shown(features, {"trained": ok, "untrained": ok}, ok, ())
    assert report._constant(shown) == [
        "trained: all videos have the same features, however they are shown: its scores say nothing"
    ]


def test_what_cannot_be_asked_is_said(monkeypatch) -> None:
    with pytest.raises(VidsslError, match="at least 4"):
        report.temporal("x", clips=3)
    with pytest.raises(VidsslError, match="seconds=2"):
        report.temporal("x", options=EvalOptions(seconds=2.0))
    assert len(NOISE_CLASSES) == 4


def test_the_same_noise_is_of_one_protocol_and_other_noise_of_another() -> None:
    from vidssl.data.manifest.manifest import VideoIndex
    from vidssl.evaluation.report import data_record
    from vidssl.evaluation.temporal.windows import rendered_noise

    found, folders = [], []
    for seed in (0, 0, 1):
        with rendered_noise(1, 4, seed) as folder:
            found.append(data_record(folder, VideoIndex.read(folder / "val"), [])["content"])
            folders.append(folder)
    assert found[0] == found[1] != found[2]
    assert not any(folder.exists() for folder in folders)
