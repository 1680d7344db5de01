"""The decord decoder, for the ordinary files on which it delivers exactly what PyAV delivers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidssl.data.decode.container import is_indexed
from vidssl.data.decode.orientation import Orientation
from vidssl.data.decode.reader import DecodeError, VideoReader, decoding, require_file
from vidssl.data.decode.timeline import Timeline, read_timeline
from vidssl.errors import VidsslError


def decord_objection(timeline: Timeline) -> str | None:
    """Why decord 0.6 would return wrong frames or other colours for this file; None when it is known to be right.

    Each rule was found by comparing every frame with a sequential PyAV decode: decord counts packets, so hidden frames
    and edit lists shift its index; after a seek it hands out the undecodable leading pictures of an open GOP; it
    forgets mirrors and blurs chroma when it rotates; its colours are others above 8 bits, and where halved chroma
    meets an odd size.
    """
    info = timeline.info
    rules = {
        f"the container is {timeline.container}": not is_indexed(timeline.container),
        "its time stamps do not name its frames": timeline.pts is None,
        "some packets are not shown (edit list or hidden frames)": timeline.edited,
        "it has an open GOP": timeline.open_gop,
        "it is turned by a display matrix": timeline.orientation != Orientation(),
        "it has more than 8 bits per sample": timeline.bits > 8,
        "it has an odd size": timeline.subsampled and bool(info.height % 2 or info.width % 2),
    }
    return next((reason for reason, applies in rules.items() if applies), None)


def import_decord() -> Any:
    """decord, made quiet; `VidsslError` when it cannot be loaded."""
    try:
        import decord
    except (ImportError, OSError) as error:
        raise VidsslError(
            f"video backend 'decord' cannot be loaded ({error}); use backend 'auto' or 'pyav'"
        ) from error
    decord.logging.set_level(decord.logging.QUIET)
    return decord


class DecordReader(VideoReader):
    """`VideoReader` on decord, one thread.

    Raises:
        DecodeError: decord cannot read the file, or would return wrong frames (see `decord_objection`).
        VidsslError: decord is not installed.
    """

    def __init__(self, path: str | Path, timeline: Timeline | None = None) -> None:
        decord = import_decord()
        self.path, self.backend = Path(path), "decord"
        require_file(self.path, self.backend)
        timeline = timeline or read_timeline(self.path)
        self.info, self.times = timeline.info, timeline.times
        if (objection := decord_objection(timeline)) is not None:
            raise DecodeError(self.path, self.backend, f"{objection}, which decord gets wrong")
        with decoding(self.path, self.backend):
            self._reader: Any = decord.VideoReader(str(self.path.absolute()), num_threads=1)
            self._expect_frames(len(self._reader))
            times = self._reader.get_frame_timestamp(range(self.info.num_frames))[:, 0].astype(np.float64)
            tolerance = 1e-4 + 1e-6 * self.times  # seconds; decord keeps times in single precision
            if not (np.abs(times - times[0] - self.times) <= tolerance).all():
                raise DecodeError(self.path, self.backend, "its frame times are not those of the file")

    def _decode(self, wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
        try:
            batch = self._reader.get_batch(wanted.tolist())
        except Exception as error:
            # It pads the rows of some widths (48, 72 and others) and then cannot copy them into a batch.
            if "size must exactly match" not in str(error):
                raise
            reason = f"it cannot hand out frames that are {self.info.width} pixels wide; use 'auto' or 'pyav'"
            raise DecodeError(self.path, self.backend, reason) from error
        # A program that set decord's bridge gets tensors of another library here.
        frames: NDArray[np.uint8] = batch.asnumpy() if hasattr(batch, "asnumpy") else batch
        return frames

    def close(self) -> None:
        self._reader = None
