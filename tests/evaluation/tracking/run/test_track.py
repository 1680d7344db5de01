from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.evaluation.tracking.drawn import write_boxes, write_frames, write_masks
from tests.evaluation.tracking.run.sources import broken, three
from vidssl.data.decode.open import open_video
from vidssl.errors import VidsslError
from vidssl.evaluation.results.protocol import protocol_of
from vidssl.evaluation.tracking.run import track as module
from vidssl.evaluation.tracking.run.options import TrackOptions
from vidssl.evaluation.tracking.run.summary import notes

OPTIONS = TrackOptions(size=96, device="cpu")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load_sources", lambda checkpoint, options: three())


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two sequences with boxes and, of the second, masks."""
    for name in ("one", "two"):
        write_frames(tmp_path / "data" / name / "frames", 5)
        write_boxes(tmp_path / "data" / name / "groundtruth.txt", 5)
    write_masks(tmp_path / "data" / "two" / "masks", [0, 1, 2, 3, 4])
    return tmp_path / "data"


def track(data: Path, task: str = "sot", options: TrackOptions = OPTIONS, **others: Any) -> dict[str, Any]:
    result = module.track("subject", data, task, options=options, **others)
    json.dumps(result, allow_nan=False)
    return result


def test_features_that_tell_the_object_beat_those_that_do_not_and_copying(data: Path) -> None:
    scores = track(data)["scores"]
    auc = {name: row["mean"]["AUC"] for name, row in scores.items()}
    assert list(auc) == ["encoder", "random weights", "raw pixels", "first label copied"]
    assert auc["encoder"] > 0.7 and auc["encoder"] == auc["raw pixels"]
    assert auc["encoder"] > auc["random weights"] + 0.2 and auc["encoder"] > auc["first label copied"] + 0.2


def test_the_copied_box_scores_what_it_overlaps(data: Path) -> None:
    """The square is 16 wide and moves by (4, 4) a frame."""
    row = track(data)["scores"]["first label copied"]
    curve = []
    for t in range(5):
        shared = (16 - 4 * t) ** 2
        curve.append(sum(shared / (512 - shared) > step / 20 for step in range(21)) / 21)
    assert row["sequences"]["one"]["AUC"] == pytest.approx(sum(curve) / 5)


def test_a_broken_sequence_is_named_and_loses_no_other(data: Path) -> None:
    alone = track(data)
    for name in ("short", "still", "hidden", "damaged"):
        shutil.copytree(data / "one", data / name)
    write_boxes(data / "short" / "groundtruth.txt", 4)
    for frame in range(1, 5):
        (data / "still" / "frames" / f"{frame:05d}.png").unlink()
    write_boxes(data / "still" / "groundtruth.txt", 1)
    boxes = (data / "one" / "groundtruth.txt").read_text().splitlines()
    (data / "hidden" / "groundtruth.txt").write_text("\n".join(["nan,nan,nan,nan", *boxes[1:]]))
    (data / "damaged" / "frames" / "00003.png").write_bytes(b"no image")
    result = track(data)
    assert {record["path"]: record["reason"] for record in result["data"]["failed"]} == {
        "damaged": f"{data}/damaged/frames/00003.png: no readable image (cannot identify image file "
        f"'{data}/damaged/frames/00003.png')",
        "hidden": "hidden: no box in its first frame",
        "short": "short: 5 frames, but 4 boxes",
        "still": "still: one frame, nothing to track",
    }
    assert result["data"]["sequences"] == 6 and result["data"]["scored"] == 2
    assert result["scores"] == alone["scores"] and result["data"]["digest"] == alone["data"]["digest"]


def test_frames_in_which_the_object_is_not_seen_are_not_scored(data: Path) -> None:
    boxes = (data / "one" / "groundtruth.txt").read_text().splitlines()
    (data / "two" / "groundtruth.txt").write_text("\n".join([*boxes[:2], "0,0,0,0", *boxes[3:]]))
    rows = track(data)["scores"]["first label copied"]["sequences"]
    assert rows["one"]["AUC"] != pytest.approx(rows["two"]["AUC"])
    cut = [index for index in range(5) if index != 2]
    for folder in ("frames",):
        for number, index in enumerate(cut):
            shutil.copy(
                data / "one" / folder / f"{index:05d}.png", data / "one" / folder / f"x{number:05d}.png"
            )
            (data / "one" / folder / f"{index:05d}.png").unlink()
        (data / "one" / folder / "00002.png").unlink()
    (data / "one" / "groundtruth.txt").write_text("\n".join(boxes[index] for index in cut))
    again = track(data)["scores"]["first label copied"]["sequences"]
    assert again["one"]["AUC"] == pytest.approx(again["two"]["AUC"])


def test_features_that_are_not_finite_take_the_number_away(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "load_sources", lambda checkpoint, options: three(broken))
    result = track(data)
    encoder = result["scores"]["encoder"]
    assert encoder["not_finite"] == ["one", "two"] and encoder["mean"] == {}
    assert result["scores"]["raw pixels"]["mean"]["AUC"] > 0.7
    assert result["comparisons"] == {}


def test_without_truth_it_is_drawn_and_not_scored(data: Path, tmp_path: Path) -> None:
    write_boxes(data / "one" / "groundtruth.txt", 1)
    result = track(data, video=tmp_path / "v.mp4", plot=tmp_path / "p.png")
    assert [record["path"] for record in result["data"]["unscored"]] == ["one"]
    assert result["data"]["scored"] == 1 and list(result["scores"]["encoder"]["sequences"]) == ["two"]
    names = [Path(file).name for file in result["figures"]]
    assert names == ["v-one.mp4", "v-two.mp4", "p.png"] and all(Path(f).is_file() for f in result["figures"])
    with open_video(tmp_path / "v-one.mp4") as video:
        assert video.info.num_frames == 5 and video.info.width == 320
    undrawn = track(data)
    assert undrawn["data"]["unscored"][0]["reason"].endswith("; --video or --plot draws what was tracked")


def test_what_has_to_be_said_of_a_sequence_is_in_the_result(data: Path) -> None:
    masks = sorted((data / "two" / "masks").iterdir())
    image = Image.open(masks[0])
    image.putpixel((0, 0), 2)
    image.save(masks[0])
    result = track(data, "vos", TrackOptions(device="cpu"))
    [remark] = result["data"]["remarks"]
    assert remark["path"] == "two" and remark["reason"].startswith("1 of 2 objects have no cell")
    assert f"two: {remark['reason']}" in notes(result)


def test_a_box_outside_of_the_frame_starts_nothing(data: Path) -> None:
    for box in ((500, 12, 16, 16), (-20, 12, 16, 16), (8, -16, 16, 16)):
        with pytest.raises(VidsslError, match="lies outside of its 80 x 64 pixels"):
            track(data / "one", options=TrackOptions(size=96, box=box))


def test_a_box_drawn_by_hand_is_where_it_starts(data: Path, tmp_path: Path) -> None:
    (data / "one" / "groundtruth.txt").unlink()
    result = track(
        data / "one", options=TrackOptions(size=96, box=(8, 12, 16, 16)), video=tmp_path / "mine.mp4"
    )
    assert result["figures"] == [str(tmp_path / "mine.mp4")]
    assert result["data"]["unscored"] == [{"path": "one", "reason": "no true boxes; it is drawn"}]


def test_the_protocol_is_in_the_hash_and_the_machine_is_not() -> None:
    def digest(task: str = "vos", stride: int = 8, layer: int = 3, **others: Any) -> str:
        settings = TrackOptions(**others).settings(task, stride=stride, layer=layer)
        return str(protocol_of({"task": f"track-{task}", "settings": settings})["hash"])

    chosen = [
        digest(),
        digest(preset="crw"),
        digest(stride=4),
        digest(layer=2),
        digest(mode="window"),
        digest(size=240),
        digest(max_frames=5),
        digest("pose"),
        digest("sot"),
        digest("sot", head="xcorr"),
        digest("sot", legacy=True),
        digest("mot"),
        digest("mot", detections="given"),
    ]
    assert len(set(chosen)) == len(chosen)
    assert digest(device="cpu") == digest(seed=3) == digest(head="xcorr") == digest()
    assert digest("sot", preset="crw") == digest("sot")


@pytest.mark.parametrize(
    ("task", "options", "said"),
    [
        ("sott", {}, "task='sott': unknown; did you mean 'sot'"),
        ("sot", {"mode": "window"}, "mode=window: must be static with sot"),
        ("pose", {"box": (1, 2, 3, 4)}, r"box=\(1, 2, 3, 4\): must be left out"),
        ("sot", {"box": (1, 2, 0, 4)}, "box=1,2,0,4: must be x,y,w,h in pixels, with w and h above 0"),
        ("sot", {"sequences": "tow"}, "no sequence 'tow'; did you mean 'two'"),
        (
            "mot",
            {"detections": "nowhere"},
            "detections=nowhere: must be truth, given, or with mot and mots a file or folder",
        ),
        ("vos", {"detections": "."}, r"detections=\.: must be truth, given, or with mot"),
        ("sot", {"max_frames": 1}, "max_frames=1: must be at least 2"),
        ("pose", {}, "no sequence for task pose: one: no key points; two: no key points"),
    ],
)
def test_a_wrong_choice_is_one_line(data: Path, task: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(VidsslError, match=said):
        track(data, task, TrackOptions(**options))


def test_sequences_are_chosen_by_name_or_list(data: Path, tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("two\n")
    for given in ("two", str(tmp_path / "val.txt")):
        result = track(data, options=TrackOptions(size=96, sequences=given))
        assert list(result["scores"]["encoder"]["sequences"]) == ["two"]


def test_a_picture_of_another_kind_is_refused_before_anything_is_tracked(data: Path) -> None:
    with pytest.raises(VidsslError, match=r"--plot strip\.jpg: must end in \.png"):
        track(data, plot="strip.jpg")
