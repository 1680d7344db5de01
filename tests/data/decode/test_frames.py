from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.conftest import numbered_frame, numbers_of
from vidssl.data.decode.frames import picture_names
from vidssl.data.decode.open import open_video, probe_video
from vidssl.data.decode.reader import DecodeError, VideoInfo


def write_frames(folder: Path, numbers: Iterable[int] = range(12), name: str = "img_{:05}.png") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        Image.fromarray(numbered_frame(number)).save(folder / name.format(number))
    return folder


def test_a_folder_of_frames_is_a_video(tmp_path: Path) -> None:
    path = Path(f"{write_frames(tmp_path / 'clip')}#fps=12")
    assert probe_video(path) == VideoInfo(num_frames=12, fps=12.0, duration=1.0, height=48, width=80)
    with open_video(path) as video:
        assert numbers_of(video.frames([11, 0, 5, 5])) == [11, 0, 5, 5]
        np.testing.assert_array_equal(video.frames([7])[0], numbered_frame(7))
        np.testing.assert_allclose(video.times, np.arange(12) / 12, rtol=1e-15)
    with open_video(path, "decord") as video:  # whatever decodes files
        assert video.backend == "frames"


def test_the_order_is_that_of_the_numbers(tmp_path: Path) -> None:
    assert picture_names(write_frames(tmp_path / "a", range(1, 13), "{}.jpg"))[9] == "10.jpg"
    assert picture_names(write_frames(tmp_path / "b", range(0, 30, 5), "f-{:05}.JPG"))[1] == "f-00005.JPG"
    flow = write_frames(write_frames(tmp_path / "c", name="flow_x_{:05}.jpg"), name="img_{:05}.jpg")
    (flow / ".img_99999.jpg").touch()
    (flow / "notes.txt").touch()
    assert picture_names(flow) == [f"img_{number:05}.jpg" for number in range(12)]


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ([1, 2, 3, 6, 7, 9], r"frames are missing: 3, the first after img_00003\.png"),
        ([0, 1, 4], r"frames are missing: 2, the first after img_00001\.png"),
        ([], "the folder has no pictures"),
    ],
)
def test_gaps_are_told(tmp_path: Path, numbers: list[int], said: str) -> None:
    path = write_frames(tmp_path / "clip", numbers)
    with pytest.raises(DecodeError, match=said):
        open_video(f"{path}#fps=10")


def test_other_oddities_are_told(tmp_path: Path) -> None:
    path = write_frames(tmp_path / "clip")
    with pytest.raises(DecodeError, match="frames in a folder need their rate, as in clip#fps=12"):
        open_video(path)
    Image.new("RGB", (40, 30)).save(path / "img_00012.png")
    with pytest.raises(DecodeError, match=r"img_00012\.png is 40x30, the first frame 80x48"):
        open_video(f"{path}#fps=10")
    (path / "img_00012.png").write_bytes((path / "img_00003.png").read_bytes()[:120])
    with open_video(f"{path}#fps=10") as video, pytest.raises(DecodeError, match=r"(?i)truncated|broken"):
        video.frames([12])
    (path / "img_00012.png").write_text("words")
    with pytest.raises(DecodeError, match="cannot identify image file"):
        open_video(f"{path}#fps=10")
    (path / "img_00012.png").unlink()
    Image.fromarray(np.zeros((48, 80), np.uint16)).save(path / "img_00000.png")
    with pytest.raises(DecodeError, match=r"img_00000\.png has more than 8 bits a sample"):
        open_video(f"{path}#fps=10")
    write_frames(path, [1], "img_{}.png")
    with pytest.raises(DecodeError, match="have the same number"):
        open_video(f"{path}#fps=10")
    with pytest.raises(DecodeError, match="several series of pictures"):
        open_video(f"{write_frames(write_frames(tmp_path / 'b', name='l{}.png'), name='r{}.png')}#fps=10")
    (path / "cover.jpg").touch()
    with pytest.raises(DecodeError, match=r"cover\.jpg has no number"):
        open_video(f"{path}#fps=10")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("nowhere.png")])
def test_what_is_no_file_is_told_and_never_waited_for(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = write_frames(tmp_path / "clip")
    (path / "img_00005.png").unlink()
    make(path / "img_00005.png")
    with pytest.raises(DecodeError, match=r"img_00005\.png is not a regular file"):
        open_video(f"{path}#fps=10")


def test_a_damaged_png_is_told(tmp_path: Path) -> None:
    """Its chunks have checksums, which Pillow looks past where it decodes."""
    path = Path(f"{write_frames(tmp_path / 'clip')}#fps=12")
    file, rng = tmp_path / "clip/img_00005.png", np.random.default_rng(0)
    content = file.read_bytes()
    told = 0
    for place in rng.integers(content.index(b"IDAT"), len(content) - 12, size=40).tolist():
        file.write_bytes(
            content[:place] + bytes([content[place] ^ 1 << int(rng.integers(8))]) + content[place + 1 :]
        )
        with pytest.raises(DecodeError), open_video(path) as video:
            video.frames([5])
        told += 1
    assert told == 40
