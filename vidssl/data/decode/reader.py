"""What every decoder offers (`VideoReader`, `VideoInfo`) and the one error all of them raise (`DecodeError`)."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from vidssl.data.decode.address import split_archive
from vidssl.data.decode.trouble import MachineTroubleError, machine_trouble
from vidssl.data.hub import split_row
from vidssl.errors import VidsslError

PIECE = 128 * 2**20  # bytes of frames that `VideoReader.each` holds at a time
Indices = Sequence[int] | NDArray[np.int64]

# decord prefixes its messages with "[12:34:56] /build/path/file.cc:123: ", sometimes twice.
_SOURCE_PREFIX = re.compile(r"\[\d\d:\d\d:\d\d\] \S+:\d+: ")
_SHOWN_NAME = {"pyav": "PyAV"}


class DecodeError(VidsslError):
    """A file from which the wanted frames cannot be had.

    Attributes:
        path: the file. backend: the decoder that failed, or "auto". reason: what it said, one line.
    """

    def __init__(self, path: str | Path, backend: str, reason: str) -> None:
        self.path, self.backend, self.reason = Path(path), backend, reason
        said = reason if backend == "auto" else f"{shown_name(backend)}: {reason}"
        name = str(path).encode(errors="backslashreplace").decode()  # names that are not UTF-8 must print too
        super().__init__(f"{name}: no video stream could be decoded ({said})")

    def __reduce__(self) -> tuple[type[DecodeError], tuple[Path, str, str]]:
        # The default would call DecodeError(message) when a worker process hands the error to its parent.
        return type(self), (self.path, self.backend, self.reason)


@dataclass(frozen=True)
class VideoInfo:
    """Facts of one video.

    Attributes:
        num_frames: frames that are shown (edit lists and hidden frames taken out), >= 1.
        fps: mean rate in frames per second. duration: seconds from the first frame to the end of the last.
        height, width: pixels of a frame as displayed, that is after rotation metadata; pixels are not made square.
    """

    num_frames: int
    fps: float
    duration: float
    height: int
    width: int


class VideoReader(ABC):
    """One open video; a context manager that closes itself.

    Attributes:
        path: the file. backend: the decoder in use ("decord", "pyav" or "torchcodec").
        info: see `VideoInfo`. times: (num_frames,) seconds, the first is 0, never decreasing.
    """

    path: Path
    backend: str
    info: VideoInfo
    times: NDArray[np.float64]

    def frames(self, indices: Indices) -> NDArray[np.uint8]:
        """The frames at ``indices`` (any order, repeats allowed), uint8 RGB (len(indices), H, W, 3), contiguous.

        Index i is the i-th frame of a sequential decode. A packet that decodes without complaint to no picture of
        its own shows the picture before it, as a player would.

        Raises:
            IndexError: an index lies outside [0, num_frames).
            DecodeError: a wanted frame is damaged or missing.
        """
        wanted = self._inside(indices)
        shape = (wanted.size, self.info.height, self.info.width, 3)
        if not wanted.size:
            return np.empty(shape, dtype=np.uint8)
        with decoding(self.path, self.backend):
            frames = np.ascontiguousarray(self._decode(wanted), dtype=np.uint8)
        if frames.shape != shape:
            raise DecodeError(self.path, self.backend, f"frames of shape {frames.shape} instead of {shape}")
        return frames

    def frames_into(self, indices: Indices, out: NDArray[np.uint8]) -> None:
        """`frames`, in memory of one's own, which holds anything after an error.

        Args:
            out: (len(indices), H, W, 3), with any strides.
        """
        out[:] = self.frames(indices)

    def _inside(self, indices: Indices) -> NDArray[np.int64]:
        """The indices as an array, insisting that the video has such frames."""
        wanted, count = np.asarray(indices, dtype=np.int64).reshape(-1), self.info.num_frames
        outside = wanted[(wanted < 0) | (wanted >= count)]
        if outside.size:
            raise IndexError(f"{self.path}: frame {outside[0]} is outside the video's {count} frames")
        return wanted

    def each(self, indices: Indices) -> Iterator[NDArray[np.uint8]]:
        """The frames at ``indices``, which never fall, one after the other: for more of them than memory holds.

        Raises:
            IndexError, DecodeError: see `frames`; when the frame's turn comes.
        """
        piece = max(PIECE // (3 * self.info.height * self.info.width), 1)
        for start in range(0, len(indices), piece):
            yield from self.frames(indices[start : start + piece])

    @abstractmethod
    def _decode(self, wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The frames at ``wanted``, at least one and none outside the video; any error is a decoder's."""

    @abstractmethod
    def close(self) -> None:
        """Give back the file; harmless when repeated."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _expect_frames(self, count: int) -> None:
        """What the decoder counts must be what the packets say."""
        if count != self.info.num_frames:
            reason = f"{count} frames counted instead of {self.info.num_frames}"
            raise DecodeError(self.path, self.backend, reason)


def require_file(path: Path, backend: str) -> None:
    """Insist on a file of its own, for decoders that open files by their names.

    Raises:
        DecodeError: the path leads into a tar file.
    """
    found = split_archive(path) or split_row(path)
    if found is not None:
        raise DecodeError(path, backend, f"it cannot read what lies in {found[0].name}; use 'auto' or 'pyav'")


@contextmanager
def decoding(path: Path, backend: str) -> Iterator[None]:
    """Turn whatever a decoder raises inside the block into a `DecodeError`, or a `MachineTroubleError` where it says
    nothing of the file.

    Decoders raise DECORDError, av.FFmpegError, RuntimeError, ValueError, IndexError, OSError, OverflowError, … with no
    common base class, hence the bare Exception.
    """
    try:
        yield
    except (DecodeError, MachineTroubleError):
        raise
    except Exception as error:
        raise machine_trouble(error, path) or DecodeError(path, backend, one_line(error)) from error


def shown_name(decoder: str) -> str:
    """What a person calls a decoder."""
    return _SHOWN_NAME.get(decoder, decoder)


def one_line(error: BaseException) -> str:
    """The error's own words on one line of at most 160 characters, without source positions and paths."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    first = _SOURCE_PREFIX.sub("", text.strip()).splitlines()[0]
    return first if len(first) <= 160 else first[:159] + "…"
