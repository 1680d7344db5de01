"""The whole measurement on clips whose factors an encoder reads off by construction: rows, controls, what is left out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vidssl.data.manifest.quarantine import FailedVideo
from vidssl.errors import VidsslError
from vidssl.evaluation.disentanglement import measure, report
from vidssl.evaluation.disentanglement.clips import RenderedClips, Shown
from vidssl.evaluation.disentanglement.encode import encode_clips
from vidssl.evaluation.disentanglement.report import disentangle, write_report
from vidssl.evaluation.disentanglement.show import report_notes, show_disentanglement
from vidssl.evaluation.disentanglement.signs import signs_of
from vidssl.evaluation.setup import EvalOptions, Subject
from vidssl.models.encoder import ClipFeatures, VideoEncoder
from vidssl.synthetic.factors.table import FactorTable

FRAMES = 8


class Ramps:
    """Clips of one pixel colour: red is `shade`, green rises or falls by `spin`, blue is noise; a clip or two are broken."""

    def __init__(self, count: int = 1500, broken: Sequence[int] = (), constant: bool = False) -> None:
        rng = np.random.default_rng(0)
        values = rng.integers([4, 5, 1], size=(count, 3))
        columns = slice(0, 3 if constant else 2)
        names = ["shade", "spin", "place"][columns]
        paths = [Path(f"{number}.mp4") for number in range(count)]
        sizes = {"shade": 4, "spin": 5, "place": 1}
        self.table = FactorTable(paths, names, values[:, columns], {n: sizes[n] for n in names}, {"spin"})
        self.name, self.broken, self.noise = Path("/ramps"), broken, rng.normal(size=count)

    def shown(self, subject: Subject) -> Iterator[Shown]:
        for start in range(0, len(self.noise), 100):
            rows = range(start, min(start + 100, len(self.noise)))
            values = torch.from_numpy(self.table.values[list(rows)]).float()
            time = torch.arange(FRAMES) - (FRAMES - 1) / 2
            red = values[:, :1].expand(-1, FRAMES)
            blue = torch.from_numpy(self.noise[list(rows)]).float()[:, None].expand(-1, FRAMES)
            clips = torch.stack([red, (values[:, 1:2] - 2) * time, blue], dim=1)[..., None, None]
            gone = [n for n in self.broken if n in rows]
            yield Shown(list(rows), clips, [FailedVideo(n, f"{n}.mp4", "no frames") for n in gone])

    def record(self, failures: Sequence[FailedVideo]) -> dict[str, Any]:
        return {"videos": len(self.noise), "failed": [failure.record for failure in failures], "remarks": []}


class Reader(VideoEncoder):
    """Reads shade, slope of green and noise off; `sees` one frame at a time: no slope."""

    def __init__(self, sees: str = "clip", spoil: float = np.inf) -> None:
        super().__init__(
            embed_dim=3, width=3, mean=(0, 0, 0), std=(1, 1, 1), image_size=1, spec={"family": "reader"}
        )
        self.sees, self.spoil = sees, spoil

    def features(self, clips: Tensor, patches: bool, keys: Tensor | None = None) -> ClipFeatures:
        frames = clips[..., 0, 0].transpose(1, 2).clone()
        if self.sees == "clip":
            frames[..., 1] = frames[..., 1].diff(dim=1).mean(dim=1)[:, None]
        frames = torch.where(frames[..., 2:] > self.spoil, torch.nan, frames)
        return ClipFeatures(frames.mean(dim=1), frames, None)


@pytest.fixture
def subject(monkeypatch: pytest.MonkeyPatch) -> Subject:
    monkeypatch.setattr(measure, "BATCHES", (300, 200, 16))
    made = Subject(Path("reader"), Reader(), None, EvalOptions(frames=FRAMES, stride=1), torch.device("cpu"))
    monkeypatch.setattr(
        report, "load_subject", lambda checkpoint, options: replace(made, path=Path(checkpoint))
    )
    return made


def test_rows_say_what_each_control_knows(
    subject: Subject, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    result = disentangle("reader", Ramps(), bins=20)
    rows, would = result["rows"], result["would_say_if"]
    encoder = rows["encoder"]
    assert encoder["factors"]["shade"] == {
        "nats": pytest.approx(np.log(4), abs=2e-3),
        "dimension": 0,
        "entropy": pytest.approx(np.log(4), abs=2e-3),
    }
    assert encoder["factors"]["spin"]["dimension"] == 1
    assert encoder["signs"]["sense of spin"]["nats"] == pytest.approx(np.log(2), abs=2e-3)
    assert encoder["signs"]["sense of spin"]["clips"] == int((Ramps().table.values[:, 1] != 2).sum())
    assert encoder["groups"]["all"]["med"] > 0.9
    # Groups of a single factor have no MED.
    assert set(encoder["groups"]) == {"all"}
    # What stands still has no slope, and a random order has one of its own.
    for name in ("mean of frames", "frame 0 alone"):
        assert rows[name]["factors"]["shade"]["nats"] == pytest.approx(np.log(4), abs=2e-3)
        assert rows[name]["signs"]["sense of spin"]["nats"] < 0.02
    assert (
        rows["frames shuffled"]["signs"]["sense of spin"]["nats"]
        < 0.02
        < rows["frames shuffled"]["factors"]["spin"]["nats"]
    )
    assert would["labels permuted"]["groups"]["all"]["nats"] < 0.05
    assert would["axes rotated"]["groups"]["all"]["med"] < encoder["groups"]["all"]["med"] - 0.2
    assert would["ideal code"]["groups"]["all"]["med"] > 0.9
    assert result["other_scores"]["encoder"]["explicitness"] > 0.8
    assert "sap" not in result["other_scores"]["encoder"]
    assert (result["clips"], result["dimensions"], result["bins"]) == (1500, 3, 20)
    assert result["notes"] == [
        "no untrained encoder beside it: only of runs the weights they started from are kept",
        "mean of frames: 1 of 3 dimensions are constant and say nothing",
        "frame 0 alone: 1 of 3 dimensions are constant and say nothing",
    ]
    assert disentangle("reader", Ramps(), bins=20) == result
    show_disentanglement("reader on ramps", result)
    printed = capsys.readouterr().out
    assert "1500 clips, 3 dimensions, 20 bins" in printed
    for name in (*rows, *would, "shade", "sense of spin", "FactorVAE"):
        assert name.split()[0] in printed
    files = write_report(result, tmp_path)
    assert files == ["disentangle.json", "disentangle_information.png", "disentangle_best.png"]
    assert all((tmp_path / file).stat().st_size for file in files)
    assert json.loads((tmp_path / files[0]).read_text())["rows"] == json.loads(json.dumps(rows))


def test_slow_scores_are_of_few_clips_and_say_so(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def counted(*parts: np.ndarray) -> dict[str, float]:
        seen.extend(len(part) for part in parts)
        return {"disentanglement": 0.5, "completeness": np.nan, "informativeness": 0.25}

    monkeypatch.setattr(measure, "SLOW_CLIPS", 40)
    monkeypatch.setattr(report, "SLOW_CLIPS", 40)
    monkeypatch.setattr(measure, "dci", counted)
    result = disentangle("reader", Ramps(200), slow=True)
    scores = result["other_scores"]["encoder"]
    assert seen == [40] * 4 and scores["dci_disentanglement"] == 0.5 and scores["dci_completeness"] is None
    assert scores["sap"] > 0
    assert "SAP and DCI: fitted on 40 clips and tested on as many others" in report_notes(result)


def test_an_encoder_of_single_frames_is_its_own_bag(subject: Subject) -> None:
    shown = replace(subject, encoder=Reader("frame"), untrained=Reader("clip"))
    codes = encode_clips(shown, Ramps(200)).codes
    assert list(codes) == ["encoder", "untrained", "frames shuffled", "mean of frames", "frame 0 alone"]
    for name in ("mean of frames", "frames shuffled"):
        assert codes[name] == pytest.approx(codes["encoder"])
    assert not np.allclose(codes["frame 0 alone"], codes["encoder"])
    # The same of an encoder of clips, which is shown every frame standing still.
    seen = encode_clips(subject, Ramps(200)).codes
    assert seen["mean of frames"][:, [0, 2]] == pytest.approx(codes["mean of frames"][:, [0, 2]], abs=1e-6)
    assert (seen["mean of frames"][:, 1] == 0).all() and (seen["frame 0 alone"][:, 1] == 0).all()


def test_broken_clips_are_named_counted_and_left_out(subject: Subject) -> None:
    clips = Ramps(300, broken=[7, 120])
    spoilt = np.flatnonzero(clips.noise.astype(np.float32) > 2.0).tolist()
    assert spoilt
    found = encode_clips(replace(subject, encoder=Reader(spoil=2.0)), clips)
    assert [failure.video_id for failure in found.failures] == sorted([7, 120, *spoilt])
    assert len(found.rows) == len(found.codes["encoder"]) == 300 - 2 - len(spoilt)
    assert not set(found.rows.tolist()) & {7, 120, *spoilt}
    assert np.isfinite(found.codes["encoder"]).all()
    assert found.codes["encoder"][:, 0].tolist() == clips.table.values[found.rows, 0].tolist()
    result = disentangle("reader", clips)
    assert result["clips"] == 298
    assert report_notes(result)[-3:] == [
        "left out: 2 of 300 clips",
        "left out: 7.mp4: no frames",
        "left out: 120.mp4: no frames",
    ]
    with pytest.raises(VidsslError, match=r"none of 100 clips has codes; 0.mp4: codes are not finite"):
        encode_clips(replace(subject, encoder=Reader(spoil=-np.inf)), Ramps(100))


def test_constant_factors_are_named(subject: Subject) -> None:
    result = disentangle("reader", Ramps(100, constant=True))
    assert "constant factors, left out: place" in result["notes"]
    assert set(result["rows"]["encoder"]["factors"]) == {"shade", "spin"}


def test_what_cannot_be_measured_is_said_before_anything_is_encoded(subject: Subject) -> None:
    few = Ramps(10)
    few.shown = None  # type: ignore[assignment, method-assign]
    with pytest.raises(VidsslError, match="/ramps: 10 clips for 20 bins: take more clips, or fewer bins"):
        disentangle("reader", few)
    one = Ramps(100)
    one.table.values[:, 1] = 0
    one.shown = None  # type: ignore[assignment, method-assign]
    with pytest.raises(VidsslError, match="of the factors shade, spin 1 vary: two are needed"):
        disentangle("reader", one)
    with pytest.raises(VidsslError, match="bins=1"):
        disentangle("reader", few, bins=1)


def test_signs() -> None:
    names, sizes = ["shape", "direction", "spin", "zoom"], [4, 8, 5, 3]
    found = signs_of(names, sizes, [False, True, True, True])
    assert [sign.name for sign in found] == ["left or right", "up or down", "sense of spin"]
    sideways, upright, spin = found
    directions, turns = np.arange(8), np.arange(5)
    x, y = np.cos(directions * np.pi / 4), np.sin(directions * np.pi / 4)
    for sign, along in ((sideways, x), (upright, y)):
        expected = np.where(np.abs(along) < 1e-9, -1, along > 0)
        assert sign.labels(directions).tolist() == expected.tolist()
    assert spin.labels(turns).tolist() == [0, 0, -1, 1, 1]
    room = signs_of(["camera_velocity", "object_spin"], [3, 3], [True, True])
    assert [sign.name for sign in room] == ["sense of camera", "sense of spin"]
    assert room[0].labels(np.arange(3)).tolist() == [0, -1, 1]
    # Not of static factors, nor of others of that name.
    assert signs_of(["direction", "spin"], [8, 5], [False, False]) == []
    assert signs_of(["direction", "spin"], [6, 4], [True, True]) == []


def test_rendered_clips_are_the_same_however_they_are_batched(subject: Subject) -> None:
    clips = RenderedClips("sprites", 5, 3, seed=1)
    options = EvalOptions(frames=3, stride=1, size=16)
    parts = []
    for batch_size in (2, 5):
        shown = list(clips.shown(replace(subject, options=replace(options, batch_size=batch_size))))
        assert [n for part in shown for n in part.numbers] == list(range(5))
        parts.append(torch.cat([part.clips for part in shown]))
    assert parts[0].shape == (5, 3, 3, 16, 16) and parts[0].equal(parts[1])
    assert 0 <= float(parts[0].min()) < float(parts[0].max()) <= 1
    assert (
        clips.record([])["factors_digest"]
        != RenderedClips("sprites", 5, 3, seed=2).record([])["factors_digest"]
    )
