"""Opening videos: one call, whatever decodes them.

Example::

    with open_video("clip.mp4") as video:
        clip = video.frames([0, 8, 16])  # uint8 (3, H, W, 3)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from vidssl.data.decode.choice import DECODERS, decoder_order
from vidssl.data.decode.decord_reader import DecordReader, import_decord
from vidssl.data.decode.frames import FramesReader, frames_timeline, is_frame_folder
from vidssl.data.decode.pyav_reader import PyAVReader
from vidssl.data.decode.reader import DecodeError, Indices, VideoInfo, VideoReader, shown_name
from vidssl.data.decode.timeline import Timeline, read_timeline
from vidssl.data.decode.torchcodec_reader import TorchcodecReader, import_torchcodec
from vidssl.data.decode.trouble import MachineTroubleError
from vidssl.errors import VidsslError, check_choice

BACKENDS = ("auto", *DECODERS)
T = TypeVar("T")


class Opener(Protocol):
    """What opens a video, as `open_video` does."""

    def __call__(
        self, path: Path, *, timeline: Timeline | None = None
    ) -> AbstractContextManager[VideoReader]:
        """The video at `path`, and its time line where it is known."""


def open_video(path: str | Path, backend: str = "auto", timeline: Timeline | None = None) -> VideoReader:
    """Open a video file, a member of a tar file, or a folder of frames (see `vidssl.data.decode.address`).

    Args:
        path: any file name; it is never interpreted as a protocol, a pattern or a shell word.
        backend: "auto" takes the first of `decoder_order` that is known to be right for the file, and the next one when it
            fails; "decord", "pyav" and "torchcodec" use that one alone.
        timeline: of the file where it is known, as a manifest does: the file is then not scanned for it.

    Raises:
        DecodeError: there is no readable video in the file.
        VidsslError: the backend is unknown or cannot be loaded.
    """
    check_choice("video backend", backend, BACKENDS, "unknown {name} {value!r}{guess} (allowed: {allowed})")
    if is_frame_folder(Path(path)):
        return FramesReader(path, timeline)
    if backend == "auto":
        return AutoReader(path, timeline)
    return _open_with(backend, Path(path), timeline)


def probe_video(path: str | Path) -> VideoInfo:
    """Facts of a video from its packets; its first frame is really decoded, the others are not.

    Raises:
        DecodeError: there is no readable video in the file.
    """
    return find_timeline(Path(path)).info


def find_timeline(path: Path) -> Timeline:
    """The time line of whatever `open_video` opens, from one pass over it.

    Raises:
        DecodeError: there is no readable video in the file.
    """
    return frames_timeline(path) if is_frame_folder(path) else read_timeline(path)


class AutoReader(VideoReader):
    """The first decoder of `decoder_order` that takes the file, and from its first failure on the next."""

    def __init__(self, path: str | Path, timeline: Timeline | None = None) -> None:
        self.path = Path(path)
        self._timeline = timeline or read_timeline(self.path)
        self.info, self.times = self._timeline.info, self._timeline.times
        self._left = [name for name in decoder_order() if name not in self._timeline.refused]
        self._complaints: list[str] = []  # what those that failed said
        self._reader = self._next()
        self.backend = self._reader.backend

    def each(self, indices: Indices) -> Iterator[NDArray[np.uint8]]:
        """See `VideoReader`; where a decoder fails the next one goes on."""
        done = 0
        while True:
            try:
                for frame in self._reader.each(indices[done:]):
                    yield frame
                    done += 1
                return
            except DecodeError as error:
                self._go_on(error)

    def frames_into(self, indices: Indices, out: NDArray[np.uint8]) -> None:
        """See `VideoReader`; where a decoder fails the next one begins again."""
        self._try(lambda reader: reader.frames_into(indices, out))

    def _decode(self, wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self._try(lambda reader: reader.frames(wanted))

    def _try(self, read: Callable[[VideoReader], T]) -> T:
        while True:
            try:
                return read(self._reader)
            except DecodeError as error:
                self._go_on(error)

    def _go_on(self, error: DecodeError) -> None:
        """With the next decoder."""
        self._complaints.append(f"{shown_name(error.backend)}: {error.reason}")
        self._reader.close()
        self._reader = self._next()
        self.backend = self._reader.backend

    def close(self) -> None:
        self._reader.close()

    def _next(self) -> VideoReader:
        while self._left:
            name = self._left.pop(0)
            try:
                return _open_with(name, self.path, self._timeline)
            except DecodeError as error:
                self._complaints.append(f"{shown_name(name)}: {error.reason}")
            except MachineTroubleError:
                raise
            except VidsslError:  # not installed
                continue
        raise DecodeError(self.path, "auto", "; ".join(self._complaints) or "no decoder takes it")


def loadable_decoders() -> tuple[str, ...]:
    """Those of `DECODERS` that can be loaded here."""
    loaders = {"decord": import_decord, "torchcodec": import_torchcodec}
    found = []
    for name in DECODERS:
        with suppress(VidsslError):
            loaders.get(name, lambda: None)()
            found.append(name)
    return tuple(found)


def _open_with(decoder: str, path: Path, timeline: Timeline | None) -> VideoReader:
    # Looked up when called: a test may put another reader in the place of one of these.
    readers: dict[str, Callable[[Path, Timeline | None], VideoReader]] = {
        "decord": DecordReader,
        "pyav": PyAVReader,
        "torchcodec": TorchcodecReader,
    }
    return readers[decoder](path, timeline)
