"""The torchcodec decoder: optional, because it needs the extra and an FFmpeg installed on the system."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidssl.data.decode.container import is_indexed
from vidssl.data.decode.reader import DecodeError, VideoReader, decoding, one_line, require_file
from vidssl.data.decode.timeline import Timeline, read_timeline
from vidssl.errors import VidsslError


def import_torchcodec() -> Any:
    """torchcodec's VideoDecoder; `VidsslError` when it is not installed or finds no FFmpeg."""
    try:
        import torchcodec
        from torchcodec.decoders import VideoDecoder

        # Recent versions import without FFmpeg and only fail when used.
        if getattr(torchcodec, "ffmpeg_major_version", 0) is None:
            raise RuntimeError("it finds no FFmpeg libraries of a version it knows")
    except (ImportError, OSError, RuntimeError) as error:
        raise VidsslError(
            f"video backend 'torchcodec' cannot be loaded ({one_line(error)}); "
            "install vidssl[torchcodec] and FFmpeg, or use backend 'auto' or 'pyav'"
        ) from error
    return VideoDecoder


class TorchcodecReader(VideoReader):
    """`VideoReader` on torchcodec, one thread, exact seeking.

    Raises:
        DecodeError: torchcodec cannot read the file, or counts its frames otherwise.
        VidsslError: torchcodec is not installed or finds no FFmpeg.
    """

    def __init__(self, path: str | Path, timeline: Timeline | None = None) -> None:
        decoder = import_torchcodec()
        self.path, self.backend = Path(path), "torchcodec"
        require_file(self.path, self.backend)
        timeline = timeline or read_timeline(self.path)
        self.info, self.times = timeline.info, timeline.times
        info = timeline.info
        # Its colours are others above 8 bits, and where halved chroma meets an odd size.
        other_colours = timeline.bits > 8 or (timeline.subsampled and bool(info.height % 2 or info.width % 2))
        if other_colours:
            reason = f"{timeline.bits} bits a sample, {info.width}x{info.height}: its colours would come out otherwise; use 'auto'"
            raise DecodeError(self.path, self.backend, reason)
        if timeline.pts is None or timeline.orientation.mirrored or not is_indexed(timeline.container):
            raise DecodeError(
                self.path, self.backend, "its frames or their mirroring would come out wrong; use 'auto'"
            )
        with decoding(self.path, self.backend):
            self._reader: Any = decoder(
                str(self.path.absolute()), dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact"
            )
            self._expect_frames(len(self._reader))

    def _decode(self, wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
        frames: NDArray[np.uint8] = self._reader.get_frames_at(wanted.tolist()).data.numpy()
        return frames

    def close(self) -> None:
        self._reader = None
