"""What prepared videos are to look like, and how one of them is encoded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from vidssl.data.decode.pyav_reader import PyAVReader
from vidssl.data.decode.reader import DecodeError, VideoReader
from vidssl.data.views.crop import resize_short_side
from vidssl.errors import check_choice, check_value
from vidssl.files import whole_file

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
TUNES = ("fastdecode", "none")
CLOCK = 90_000  # ticks a second
SAMPLES = 8  # frames of a clip that are compared with their source
WORST = 20.0  # dB; below, the written frames are not the ones that were read
SLACK = 1e-3  # seconds by which a written time may miss its own

Frame = NDArray[np.uint8]


@dataclass(frozen=True)
class Form:
    """H.264 in MP4, its table of frames in front, without sound.

    Args:
        short_side: frames are shrunk to this short side in pixels (antialiased, as when training), never enlarged.
        gop: frames from one key frame to the next: what has to be decoded for a frame is at most that.
        crf: quality of x264, 0 (lossless) to 51; 18 is hard to tell from the source.
        fps: one frame rate for all; None keeps every frame at its time.
        preset: of x264: slower ones make smaller files.
        tune: of x264: "fastdecode" leaves out what costs most to decode (arithmetic coding, deblocking, weighted prediction) and
            takes three fifths of the time of "none", in files that are a tenth larger and 0.3 dB worse at one crf.

    Raises:
        VidsslError: a number is out of range.
    """

    short_side: int = 256
    gop: int = 12
    crf: int = 20
    fps: float | None = None
    preset: str = "veryfast"
    tune: str = "fastdecode"

    def __post_init__(self) -> None:
        check_value("short_side", self.short_side, self.short_side >= 16, "at least 16 pixels")
        check_value("gop", self.gop, self.gop >= 1, "at least 1 frame")
        check_value("crf", self.crf, 0 <= self.crf <= 51, "from 0 to 51")
        check_choice("preset", self.preset, PRESETS)
        check_choice("tune", self.tune, TUNES)
        check_value("fps", self.fps, self.fps is None or 0.1 <= self.fps <= 1000, "from 0.1 to 1000")


@dataclass(frozen=True)
class Clip:
    """A prepared clip.

    Attributes:
        path: of the file. start, stop: seconds of its source that it shows.
        frames, height, width, bytes: of the file. psnr: of some frames against the shrunk source, dB; inf where none differs.
    """

    path: str
    start: float
    stop: float
    frames: int
    height: int
    width: int
    bytes: int
    psnr: float


def write_clip(file: Path, name: str, video: VideoReader, first: int, stop: int, form: Form) -> Clip:
    """Encode the frames first, ..., stop - 1 of a video into `file`, read them back and compare.

    One frame is held at a time, so that hours of video need no more memory than seconds.

    Raises:
        DecodeError: the frames cannot be decoded, or what was written is not what was read.
        VidsslError: the file cannot be written.
    """
    start = float(video.times[first])
    end = float(video.times[stop]) if stop < len(video.times) else video.info.duration
    times = video.times[first:stop] - start
    shown = np.arange(len(times))
    if form.fps is not None:
        instants = np.arange(max(round((end - start) * form.fps), 1)) / form.fps
        shown = np.searchsorted(times, instants + SLACK, side="right") - 1
        times = instants
    compared = np.unique(np.linspace(0, len(times) - 1, SAMPLES).round().astype(int))
    kept: dict[int, Frame] = {}
    rate = form.fps or video.info.fps
    with whole_file(file) as partial:
        frames = _shrunk(video, first + shown, form.short_side)
        _encode(partial, frames, times, rate, form, kept, set(compared.tolist()))
        size = partial.stat().st_size
        with PyAVReader(partial) as written:
            psnr = _compared(video.path, written, times, kept)
            info = written.info
    return Clip(name, start, end, info.num_frames, info.height, info.width, size, psnr)


def _shrunk(video: VideoReader, indices: NDArray[np.int64], short_side: int) -> Iterator[Frame]:
    """The frames, shrunk, with the even sides that 4:2:0 chroma needs: an odd one has its last row or column twice."""
    for frame in video.each(indices):
        picture = torch.from_numpy(np.ascontiguousarray(frame))[None]
        (small,) = resize_short_side(picture, short_side).numpy()
        height, width = small.shape[:2]
        yield np.pad(small, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _encode(
    file: Path, frames: Iterator[Frame], times: NDArray[np.float64], rate: float, form: Form,
    kept: dict[int, Frame], compared: set[int],
) -> None:  # fmt: skip
    import av

    with av.open(str(file), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream: Any = None
        for number, (frame, time) in enumerate(zip(frames, times, strict=True)):
            if stream is None:
                stream = cast(
                    Any, container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1001))
                )
                stream.height, stream.width = frame.shape[:2]
                stream.pix_fmt, stream.thread_count = "yuv420p", 1  # processes run side by side already
                stream.codec_context.time_base = Fraction(1, CLOCK)
                # Key frames stand where they are asked for, and scene cuts put no others between them.
                stream.options = {
                    "crf": str(form.crf),
                    "preset": form.preset,
                    "g": str(form.gop),
                    "sc_threshold": "0",
                }
                if form.tune != "none":
                    stream.options = {**stream.options, "tune": form.tune}
            if number in compared:
                kept[number] = frame
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            picture.pts, picture.time_base = round(time * CLOCK), Fraction(1, CLOCK)
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


def _compared(source: Path, written: PyAVReader, times: NDArray[np.float64], kept: dict[int, Frame]) -> float:
    """Insist that frames and times are those that were to be written; the PSNR of some of the frames."""
    if len(written.times) != len(times):
        reason = f"{len(written.times)} frames were written instead of {len(times)}"
        raise DecodeError(source, "auto", reason)
    if not (np.abs(written.times - times) <= SLACK).all():
        raise DecodeError(source, "auto", "the written frames have other times")
    squares = [
        np.square(frame.astype(np.float64) - now).mean()
        for frame, now in zip(kept.values(), written.frames(list(kept)), strict=True)
    ]
    psnr = float("inf") if not max(squares) else float(10 * np.log10(255**2 / np.mean(squares)))
    if psnr < WORST:
        raise DecodeError(source, "auto", f"the written frames differ from the source ({psnr:.0f} dB)")
    return psnr
