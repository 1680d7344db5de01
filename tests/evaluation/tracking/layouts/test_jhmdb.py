from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from tests.evaluation.tracking.drawn import write_frames
from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.layouts import find_sequences


def write_joints(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    points = np.arange(2 * 15 * count, dtype=np.float64).reshape(2, 15, count)
    savemat(folder / "joint_positions.mat", {"pos_img": points})


def test_joints_count_from_zero_and_frames_lie_in_the_other_folder(tmp_path: Path) -> None:
    write_joints(tmp_path / "joint_positions" / "catch" / "clip_1", 3)
    write_frames(tmp_path / "Rename_Images" / "catch" / "clip_1", 3, start=1)
    write_joints(tmp_path / "joint_positions" / "catch" / "clip_2", 3)
    found = {item.name: item for item in find_sequences(tmp_path)}
    assert list(found) == ["catch/clip_1", "catch/clip_2"]
    keypoints = found["catch/clip_1"].read().keypoints
    assert keypoints is not None and keypoints[1].shape == (3, 15, 2)
    # joint 4 of frame 2: x = 4·3 + 2, y = (15 + 4)·3 + 2, counted from 1
    assert keypoints[1][2, 4].tolist() == [13, 58]
    with pytest.raises(VidsslError, match="catch/clip_2: joints, but no folder of images"):
        found["catch/clip_2"].read()


def test_joints_beside_a_folder_of_frames(tmp_path: Path) -> None:
    write_frames(tmp_path / "rgb", 4)
    write_joints(tmp_path, 3)
    with pytest.raises(VidsslError, match="4 frames, but key points of 3"):
        find_sequences(tmp_path)[0].read()
    write_joints(tmp_path, 4)
    assert find_sequences(tmp_path)[0].read().keypoints is not None


@pytest.mark.parametrize("content", [b"", b"no matlab file" * 20, b"\x80\x04]."])
def test_a_file_that_is_not_matlabs_is_named(tmp_path: Path, content: bytes) -> None:
    write_frames(tmp_path / "rgb", 2)
    (tmp_path / "joint_positions.mat").write_bytes(content)
    with pytest.raises(VidsslError, match=r"joint_positions\.mat: pos_img cannot be read"):
        find_sequences(tmp_path)[0].read()


def test_points_of_another_shape_are_refused(tmp_path: Path) -> None:
    write_frames(tmp_path / "rgb", 2)
    savemat(tmp_path / "joint_positions.mat", {"pos_img": np.ones((3, 4))})
    with pytest.raises(VidsslError, match=r"pos_img of shape \(3, 4\); expected"):
        find_sequences(tmp_path)[0].read()
