"""Opening videos: one call, whatever decodes them.

Example::

    with open_video("clip.mp4") as video:
        clip = video.frames([0, 8, 16])  # uint8 (3, H, W, 3)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidssl.data.decode.decord_reader import DecordReader, decord_objection
from vidssl.data.decode.frames import FramesReader, frames_timeline, is_frame_folder
from vidssl.data.decode.pyav_reader import PyAVReader
from vidssl.data.decode.reader import DecodeError, VideoInfo, VideoReader
from vidssl.data.decode.timeline import read_timeline
from vidssl.data.decode.torchcodec_reader import TorchcodecReader
from vidssl.data.decode.trouble import MachineTroubleError
from vidssl.errors import VidsslError, check_choice

BACKENDS = ("auto", "decord", "pyav", "torchcodec")


def open_video(path: str | Path, backend: str = "auto") -> VideoReader:
    """Open a video file, a member of a tar file, or a folder of frames (see `vidssl.data.decode.address`).

    Args:
        path: any file name; it is never interpreted as a protocol, a pattern or a shell word.
        backend: "auto" decodes with decord where decord is known to be right and with PyAV everywhere else, also when
            decord fails later on; "decord", "pyav" and "torchcodec" use that one alone.

    Raises:
        DecodeError: there is no readable video in the file.
        VidsslError: the backend is unknown or cannot be loaded.
    """
    check_choice("video backend", backend, BACKENDS, "unknown {name} {value!r}{guess} (allowed: {allowed})")
    if is_frame_folder(Path(path)):
        return FramesReader(path)
    readers = {"auto": AutoReader, "decord": DecordReader, "pyav": PyAVReader, "torchcodec": TorchcodecReader}
    reader: VideoReader = readers[backend](path)
    return reader


def probe_video(path: str | Path) -> VideoInfo:
    """Facts of a video from its packets; its first frame is really decoded, the others are not.

    Raises:
        DecodeError: there is no readable video in the file.
    """
    path = Path(path)
    return (frames_timeline(path) if is_frame_folder(path) else read_timeline(path)).info


class AutoReader(VideoReader):
    """decord where it delivers what PyAV delivers, PyAV elsewhere and from decord's first failure on."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._timeline = read_timeline(self.path)
        self.info, self.times = self._timeline.info, self._timeline.times
        self._complaint = ""  # what decord said when it failed
        self._reader = self._choose()
        self.backend = self._reader.backend

    def _decode(self, wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
        if self.backend == "decord":
            try:
                return self._reader.frames(wanted)
            except DecodeError as error:
                self._complaint = f"decord: {error.reason}; "
                self._reader.close()
                self._reader = PyAVReader(self.path, self._timeline)
                self.backend = self._reader.backend
        try:
            return self._reader.frames(wanted)
        except DecodeError as error:
            raise DecodeError(self.path, "auto", f"{self._complaint}PyAV: {error.reason}") from error

    def close(self) -> None:
        self._reader.close()

    def _choose(self) -> VideoReader:
        if decord_objection(self._timeline) is None:
            try:
                return DecordReader(self.path, self._timeline)
            except DecodeError as error:
                self._complaint = f"decord: {error.reason}; "
            except MachineTroubleError:
                raise
            except VidsslError:  # not installed: PyAV reads everything that decord reads
                pass
        return PyAVReader(self.path, self._timeline)
