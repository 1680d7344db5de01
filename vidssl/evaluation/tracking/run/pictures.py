"""``--video`` and ``--plot``: what is drawn while sequences are tracked in, and where it goes."""

from __future__ import annotations

import re
from pathlib import Path

from vidssl.data.encode import write_video
from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.run.drawing import Pixels, draw_frame, strip, strip_frames, write_strips
from vidssl.evaluation.tracking.run.task import Tracked
from vidssl.evaluation.tracking.sequence import Sequence

STRIPS = 40  # at most, of one PNG
FRAME_RATE = 20.0  # of a video of frames whose own is not known


class Pictures:
    """Videos as sequences come, and one PNG of all of them at the end.

    Args:
        video: an .mp4, or None. plot: a .png, or None.

    Attributes:
        wanted: whether anything is to be drawn. files: those written so far.

    Raises:
        VidsslError: another suffix.
    """

    def __init__(self, video: str | Path | None, plot: str | Path | None) -> None:
        self._video, self._plot = (None if file is None else Path(file) for file in (video, plot))
        for name, file, suffix in (("video", self._video, ".mp4"), ("plot", self._plot, ".png")):
            if file is not None and file.suffix.lower() != suffix:
                raise VidsslError(f"--{name} {file}: must end in {suffix}")
        self.wanted = not (self._video is None and self._plot is None)
        self._strips: list[Pixels] = []
        self.files: list[str] = []

    def add(self, sequence: Sequence, tracked: Tracked, truth: Tracked, several: bool) -> None:
        """Draw one sequence; with `several`, its video has its name behind that of the file."""
        if self._video is not None:
            file = self._video
            if several:
                safe = re.sub(r"[^A-Za-z0-9._-]+", "-", sequence.name)
                file = file.with_name(f"{file.stem}-{safe}{file.suffix}")
            frames = (draw_frame(sequence, index, tracked, truth) for index in range(len(sequence)))
            write_video(file, frames, fps=sequence.frame_rate or FRAME_RATE)
            self.files.append(str(file))
        if self._plot is not None and len(self._strips) < STRIPS:
            shown = {
                index: draw_frame(sequence, index, tracked, truth) for index in strip_frames(len(sequence))
            }
            self._strips.append(strip(sequence, shown))

    def close(self) -> None:
        """Write the PNG."""
        if self._plot is not None and self._strips:
            write_strips(self._plot, self._strips)
            self.files.append(str(self._plot))
