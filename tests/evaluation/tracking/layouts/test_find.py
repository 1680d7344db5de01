from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.tracking.drawn import (
    square_box,
    square_frame,
    square_mask,
    write_boxes,
    write_frames,
    write_masks,
)
from vidssl.data.encode import write_video
from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.layouts import find_sequences
from vidssl.evaluation.tracking.sequence import Sequence

TRACKING = Path(__file__).parents[4] / "../shared/data/tracking"


def read_all(root: Path) -> dict[str, Sequence]:
    return {found.name: found.read() for found in find_sequences(root)}


def test_otb_and_its_several_objects(tmp_path: Path) -> None:
    write_frames(tmp_path / "Car" / "img", 3, "{:04d}.jpg", start=1)
    write_boxes(tmp_path / "Car" / "groundtruth_rect.txt", 3, "\t")
    write_frames(tmp_path / "Jogging" / "img", 3, "{:04d}.jpg", start=1)
    for number in (1, 2):
        write_boxes(tmp_path / "Jogging" / f"groundtruth_rect.{number}.txt", 3, " ")
    found = read_all(tmp_path)
    assert list(found) == ["Car", "Jogging.1", "Jogging.2"]
    for sequence in found.values():
        assert sequence.boxes is not None and sequence.boxes.tolist() == [
            list(square_box(t)) for t in range(3)
        ]


def test_frames_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    write_frames(tmp_path / "frames", 12, "f{}.png")
    (only,) = read_all(tmp_path).values()
    for t in (0, 2, 11):
        assert np.array_equal(only.frames[t], square_frame(t))


def test_got10k_says_where_the_object_is_absent(tmp_path: Path) -> None:
    write_frames(tmp_path / "GOT-10k_Val_000001", 4, "{:08d}.png", start=1)
    write_boxes(tmp_path / "GOT-10k_Val_000001" / "groundtruth.txt", 4)
    (tmp_path / "GOT-10k_Val_000001" / "absence.label").write_text("0\n0\n1\n0\n")
    (only,) = read_all(tmp_path).values()
    assert only.boxes is not None and np.isnan(only.boxes).all(1).tolist() == [False, False, True, False]


def test_four_corners_are_kept_and_boxed(tmp_path: Path) -> None:
    write_frames(tmp_path / "bag" / "color", 2, "{:08d}.png", start=1)
    (tmp_path / "bag" / "groundtruth.txt").write_text("10,5,20,15,10,25,0,15\n0,0,0,0,0,0,0,0\n")
    (bag,) = read_all(tmp_path).values()
    assert bag.boxes is not None and bag.corners is not None
    assert bag.boxes[0].tolist() == [0, 5, 20, 20] and np.isnan(bag.boxes[1]).all()
    assert bag.corners[0].tolist() == [10, 5, 20, 15, 10, 25, 0, 15]


def test_one_line_is_the_box_to_start_from(tmp_path: Path) -> None:
    write_frames(tmp_path / "frames", 3)
    write_boxes(tmp_path / "groundtruth.txt", 1)
    (only,) = read_all(tmp_path).values()
    assert only.boxes is not None and np.isnan(only.boxes).all(1).tolist() == [False, True, True]


@pytest.mark.parametrize("inner", ["480p", ""])
def test_davis_and_youtube_vos(tmp_path: Path, inner: str) -> None:
    for name, annotated in (("all", [0, 1, 2, 3]), ("some", [0, 2]), ("first", [0]), ("none", [])):
        write_frames(tmp_path / "JPEGImages" / inner / name, 4, "{:05d}.jpg")
        if annotated:
            write_masks(tmp_path / "Annotations" / inner / name, annotated)
    found = read_all(tmp_path)
    assert sorted(found) == ["all", "first", "none", "some"]
    assert found["none"].masks is None
    for name, annotated in (("all", [0, 1, 2, 3]), ("some", [0, 2]), ("first", [0])):
        masks = found[name].masks
        assert masks is not None
        given = [t for t in range(4) if masks[t] is not None]
        assert given == annotated
        assert all(np.array_equal(masks[t], square_mask(t)) for t in given)
    assert [found[name].masks_introduce for name in ("all", "some", "first")] == [False, False, True]


def test_masks_that_each_bring_a_new_object_only_say_where_they_start(tmp_path: Path) -> None:
    write_frames(tmp_path / "frames", 4)
    write_masks(tmp_path / "masks", [0], number=1)
    write_masks(tmp_path / "masks", [2], number=2)
    (only,) = read_all(tmp_path).values()
    assert only.masks_introduce


def test_motchallenge_below_its_split(tmp_path: Path) -> None:
    folder = tmp_path / "train" / "MOT17-02"
    write_frames(folder / "img1", 3, "{:06d}.jpg", start=1)
    (folder / "gt").mkdir()
    (folder / "gt" / "gt.txt").write_text("2,1,5,6,7,8,1,1,0.5\n1,1,1,2,3,4,1,1,1\n1,9,0,0,5,5,0,8,1\n")
    (folder / "det").mkdir()
    (folder / "det" / "det.txt").write_text("3,-1,1,2,3,4,0.9,-1,-1,-1\n")
    (folder / "seqinfo.ini").write_text("[Sequence]\nname=MOT17-02\nimDir=img1\nframeRate=25\nseqLength=3\n")
    (only,) = read_all(tmp_path).values()
    assert only.name == "MOT17-02" and only.frame_rate == 25
    assert only.objects is not None and only.objects.tolist() == [[0, 1, 1, 2, 3, 4], [1, 1, 5, 6, 7, 8]]
    assert only.detections is not None and only.detections.tolist() == [[2, 1, 2, 3, 4, 0.9]]


def test_the_rendered_layout_has_truth_for_every_task(tmp_path: Path) -> None:
    folder = tmp_path / "00000"
    write_frames(folder / "frames", 3)
    write_masks(folder / "masks", [0, 1, 2])
    write_boxes(folder / "groundtruth.txt", 3)
    (folder / "gt.txt").write_text("1,1,8,12,16,16,1,-1,-1,-1\n2,1,11,14,16,16,1,-1,-1,-1\n")
    (folder / "keypoints.csv").write_text("frame,id,joint,x,y\n0,1,0,8,12\n0,1,1,20.5,12\n2,1,0,-1,-1\n")
    (only,) = read_all(tmp_path).values()
    assert only.boxes is not None and only.masks is not None and only.objects is not None
    assert only.keypoints is not None
    assert only.keypoints[1].tolist() == [[[8, 12], [20.5, 12]], [[-1, -1], [-1, -1]], [[-1, -1], [-1, -1]]]


def test_a_video_is_a_sequence_and_read_in_any_order(tmp_path: Path) -> None:
    video = tmp_path / "mine.mp4"
    write_video(video, np.stack([np.full((32, 48, 3), 5 * t, dtype=np.uint8) for t in range(40)]), fps=10)
    (only,) = read_all(video).values()
    assert only.name == "mine" and only.frame_rate == 10 and len(only) == 40 and only.size == (32, 48)
    assert [round(float(only.frames[t].mean()) / 5) for t in (39, 0, 33, 12)] == [39, 0, 33, 12]


def test_what_is_no_layout_is_said_with_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "stuff").mkdir()
    (tmp_path / "a.csv").write_text("x")
    with pytest.raises(
        VidsslError, match=r"only 1 folders \(stuff\), 1 files .csv; expected a video file; a folder"
    ):
        find_sequences(tmp_path)
    with pytest.raises(VidsslError, match="no such file or folder; expected"):
        find_sequences(tmp_path / "nothing")
    with pytest.raises(VidsslError, match="no video stream"):
        find_sequences(tmp_path / "a.csv")[0].read()


def test_a_broken_sequence_is_named_when_it_is_read_and_no_sooner(tmp_path: Path) -> None:
    for name in ("broken", "short", "whole"):
        write_frames(tmp_path / name / "frames", 3)
        write_boxes(tmp_path / name / "groundtruth.txt", 3)
    write_boxes(tmp_path / "short" / "groundtruth.txt", 2)
    (tmp_path / "broken" / "groundtruth.txt").write_text("1,2,3,4\n1,2,x,4\n")
    found = {item.name: item for item in find_sequences(tmp_path)}
    with pytest.raises(VidsslError, match=r"line 2: '1,2,x,4': expected numbers"):
        found["broken"].read()
    with pytest.raises(VidsslError, match="short: 3 frames, but 2 boxes"):
        found["short"].read()
    assert found["whole"].read().boxes is not None


@pytest.mark.skipif(not TRACKING.is_dir(), reason="needs the shared tracking sequences")
def test_real_sequences_are_recognised_by_what_lies_in_them() -> None:
    kinds = {}
    for name, sequence in read_all(TRACKING).items():
        masks = sequence.masks
        given = 0 if masks is None else sum(masks[t] is not None for t in range(len(sequence)))
        kinds[name] = (len(sequence), sequence.boxes is not None, sequence.corners is not None, given)
        if masks is not None:
            assert masks[0] is not None and masks[0].shape == sequence.size
    assert kinds == {
        "aot_1001_3iEIq5HBY1s": (45, False, False, 1),
        "cutie_judo": (16, False, False, 4),
        "davis_car-shadow": (40, False, False, 40),
        "davis_tennis": (70, False, False, 70),
        "otb_crossing": (120, True, False, 0),
        "otb_motorrolling": (120, True, False, 0),
        "vot15_bag": (120, True, True, 0),
    }
