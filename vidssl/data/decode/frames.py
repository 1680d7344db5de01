"""A folder of numbered pictures as a video: Jester, Something-Something v1, DAVIS, and what ffmpeg writes as frame_%05d.jpg."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidssl.data.decode.address import split_rate
from vidssl.data.decode.orientation import Orientation
from vidssl.data.decode.reader import DecodeError, VideoInfo, VideoReader, decoding
from vidssl.data.decode.timeline import Timeline

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
CONTAINER = "frames"  # in place of the name of a container
_COLOURS = ("img", "image", "frame", "im")  # how pictures are named that lie beside those of optical flow
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "YCbCr", "CMYK")  # of at most 8 bits a sample
_NUMBERED = re.compile(r"(.*?)(\d+)\D*")


class Frames(NamedTuple):
    """folder: of the pictures. names: in order. rate: a second."""

    folder: Path
    names: list[str]
    rate: float


def is_picture_name(name: str) -> bool:
    """Whether a file name ends like a picture's, in small or capital letters."""
    return name.lower().endswith(PICTURES)


def is_frame_folder(path: Path) -> bool:
    """Whether a path leads to a folder of frames with their rate."""
    folder, rate = split_rate(path)
    return rate is not None and folder.is_dir()


def picture_names(folder: Path) -> list[str]:
    """The pictures of a folder in the order of their numbers.

    Raises:
        DecodeError: there are none, or they are not numbered in equal steps: some are missing.
    """
    try:
        pictures = [
            entry for entry in os.scandir(folder) if is_picture_name(entry.name) and entry.name[0] != "."
        ]
        found = [entry.name for entry in pictures]
        odd = sorted(entry.name for entry in pictures if not entry.is_file())
    except OSError as error:
        raise DecodeError(folder, CONTAINER, f"cannot be read ({error.strerror})") from error
    if odd:  # a pipe would block, a link may lead nowhere
        raise DecodeError(folder, CONTAINER, f"{odd[0]} is not a regular file")
    series: dict[str, dict[int, str]] = defaultdict(dict)
    for name in sorted(found):
        match = _NUMBERED.fullmatch(name.rpartition(".")[0])
        if match is None:
            raise DecodeError(folder, CONTAINER, f"{name} has no number, so that frames have no order")
        if (twin := series[match[1]].setdefault(int(match[2]), name)) != name:
            raise DecodeError(folder, CONTAINER, f"{twin} and {name} have the same number")
    if not series:
        raise DecodeError(folder, CONTAINER, "the folder has no pictures")
    named = [prefix for prefix in series if prefix.rstrip("_-. ").lower() in _COLOURS]
    chosen = [*series] if len(series) == 1 else named
    if len(chosen) != 1:
        raise DecodeError(
            folder, CONTAINER, f"it holds several series of pictures: {', '.join(map(repr, series))}"
        )
    numbers = np.array(sorted(series[chosen[0]]))
    names = [series[chosen[0]][number] for number in numbers.tolist()]
    steps = np.diff(numbers)
    if len(steps) and (steps != steps.min()).any():
        missing = int((-(-steps // steps.min()) - 1).sum())
        after = names[int(np.flatnonzero(steps != steps.min())[0])]
        raise DecodeError(folder, CONTAINER, f"frames are missing: {missing}, the first after {after}")
    return names


def open_frames(path: Path) -> Frames:
    """The frames of a folder with its rate.

    Raises:
        DecodeError: see `picture_names`; also when no rate is stated.
    """
    folder, rate = split_rate(path)
    if rate is None:
        raise DecodeError(
            path, CONTAINER, f"a folder of frames needs their rate, such as {folder.name}#fps=12"
        )
    return Frames(folder, picture_names(folder), rate)


def frames_timeline(path: Path) -> Timeline:
    """The index of a folder of frames: all their headers are read, one is decoded.

    Raises:
        DecodeError: see `open_frames`; also for a picture of another size than the first, or one that cannot be read.
    """
    from PIL import Image

    frames = open_frames(path)
    count = len(frames.names)
    with decoding(path, CONTAINER):
        height, width = _picture(frames, 0).shape[:2]
        for name in frames.names:
            with Image.open(frames.folder / name) as picture:
                _check_size(path, name, picture.size, (width, height))
    numbers = np.arange(count)
    return Timeline(
        info=VideoInfo(count, frames.rate, count / frames.rate, height, width),
        times=numbers * np.float64(1 / frames.rate),
        pts=numbers,
        tick=1 / frames.rate,
        key_pts=numbers,
        key_dts=numbers,
        orientation=Orientation(),
        container=CONTAINER,
        codec=Path(frames.names[0]).suffix[1:].lower(),
        bits=8,
        subsampled=False,
        edited=False,
        open_gop=False,
    )


class FramesReader(VideoReader):
    """`VideoReader` on a folder of frames.

    Raises:
        DecodeError: see `frames_timeline`.
    """

    def __init__(self, path: str | Path, timeline: Timeline | None = None) -> None:
        self.path, self.backend = Path(path), CONTAINER
        timeline = timeline or frames_timeline(self.path)
        self.info, self.times = timeline.info, timeline.times
        self._frames = open_frames(self.path)
        self._expect_frames(len(self._frames.names))

    def _decode(self, wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
        unique, inverse = np.unique(wanted, return_inverse=True)
        pictures = np.empty((unique.size, self.info.height, self.info.width, 3), dtype=np.uint8)
        for row, index in enumerate(unique.tolist()):
            picture = _picture(self._frames, index)
            _check_size(self.path, self._frames.names[index], picture.shape[1::-1], pictures.shape[2:0:-1])
            pictures[row] = picture
        return pictures[inverse]

    def close(self) -> None:
        """Nothing stays open."""


def _picture(frames: Frames, index: int) -> NDArray[np.uint8]:
    from PIL import Image

    name = frames.names[index]
    if name.lower().endswith(".png"):
        with Image.open(frames.folder / name) as picture:
            picture.verify()  # checksums, which decoding looks past
    with Image.open(frames.folder / name) as picture:
        if picture.mode not in _MODES:
            raise DecodeError(
                frames.folder, CONTAINER, f"{name} has more than 8 bits a sample ({picture.mode})"
            )
        return np.asarray(picture.convert("RGB"))


def _check_size(path: Path, name: str, size: tuple[int, ...], first: tuple[int, ...]) -> None:
    if tuple(size) != tuple(first):
        raise DecodeError(
            path, CONTAINER, f"{name} is {size[0]}x{size[1]}, the first frame {first[0]}x{first[1]}"
        )
