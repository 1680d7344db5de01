"""Videos that are decoded once: later they are read from where their frames are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vidssl.data.cache.entry import DamagedError, Kept, Source
from vidssl.data.cache.forms import FORMS, QUALITY, Frame
from vidssl.data.cache.shelves import FolderShelf, MemoryShelf, Shelf
from vidssl.data.decode.open import Opener
from vidssl.data.decode.reader import DecodeError, VideoReader
from vidssl.data.decode.timeline import Timeline
from vidssl.data.manifest.content import content_hash, file_stamp
from vidssl.data.views.crop import resize_short_side
from vidssl.errors import VidsslError

VERSION = 2  # of what is kept


class CachedVideos:
    """Opens videos. The first time all frames of a video are decoded, shrunk and kept; from then on they are read.

    Videos of equal content (see `content_hash`) are kept once, whatever their names, and a file that changes is another video.
    One that cannot be decoded to its end, or for which there is no room, is decoded every time. Its pixels are the same either
    way: a JPEG is made and read again then too, so that nothing depends on what was kept when.

    Args:
        opener: opens a video that is not kept.
        shelf: where frames are kept.
        short_side, upsample: of the frames, as in `resize_short_side`; None keeps their size.
        fps: about how many frames a second there are at most; None for all. The others do not exist then.
    """

    def __init__(
        self,
        opener: Opener,
        shelf: Shelf,
        short_side: int | None = None,
        upsample: bool = False,
        fps: float | None = None,
    ) -> None:
        self._opener, self._shelf = opener, shelf
        self._short_side, self._upsample, self._fps = short_side, upsample, fps
        self._kind = f"{shelf.form}{QUALITY}-{short_side}-{upsample:d}-{fps}-{VERSION}"
        self._names: dict[tuple[Path, int, int], str] = {}
        self._refused: set[str] = set()

    def __call__(self, path: Path, *, timeline: Timeline | None = None) -> VideoReader:
        """The video at `path`, whose time line may be known.

        Raises:
            DecodeError: it is not kept and cannot be opened.
        """
        plain = partial(self._plain, path, timeline)
        try:
            name = self._name(path)
        except OSError:
            return plain()  # which says what is wrong

        def again() -> VideoReader:
            """The video, once what is kept of it turned out to be damaged."""
            self._shelf.throw_away(name)
            return self(path, timeline=timeline)

        if (kept := self._shelf.find(name)) is not None:
            return _KeptVideo(path, kept, again)
        if name not in self._refused:
            with suppress(DecodeError), plain() as video:
                if self._shelf.keep(name, video.source()) and (kept := self._shelf.find(name)) is not None:
                    return _KeptVideo(path, kept, again)
            self._refused.add(name)
        return plain()

    def _name(self, path: Path) -> str:
        stamp = file_stamp(path)
        if stamp is None:
            raise FileNotFoundError(path)
        key = (path, *stamp)
        if key not in self._names:
            self._names[key] = f"{content_hash(path)}-{self._kind}"
        return self._names[key]

    def _plain(self, path: Path, timeline: Timeline | None) -> _PlainVideo:
        opened = self._opener(path, timeline=timeline)
        return _PlainVideo(opened, self._shelf.form, self._short_side, self._upsample, self._fps)


def cached(
    opener: Opener,
    short_side: int | None,
    form: str = "none",
    folder: str | Path | None = None,
    gigabytes: float = 100.0,
    fps: float | None = None,
) -> Opener:
    """`opener`, or `CachedVideos` of it.

    Args:
        form: "none" keeps nothing, "memory" keeps frames in every process, "raw" and "jpeg" in files of `folder`.
        short_side, folder, gigabytes, fps: as in `CachedVideos` and `FolderShelf`.

    Raises:
        VidsslError: see `FolderShelf`; also without a folder for files.
    """
    if form == "none":
        return opener
    if form == "memory":
        return CachedVideos(opener, MemoryShelf(gigabytes), short_side, fps=fps)
    if folder is None:
        raise VidsslError(f"kept frames: form {form!r} needs a folder")
    return CachedVideos(opener, FolderShelf(folder, form, gigabytes), short_side, fps=fps)


class _PlainVideo(VideoReader):
    """A video that is decoded, and shown as it would be if it were kept."""

    def __init__(
        self,
        opened: AbstractContextManager[VideoReader],
        form: str,
        short_side: int | None,
        upsample: bool,
        fps: float | None,
    ) -> None:
        self._opened, self._video, self._form = opened, opened.__enter__(), FORMS[form]
        self._short_side, self._upsample = short_side, upsample
        info = self._video.info
        step = 1 if fps is None else max(round(info.fps / fps), 1)
        self._chosen = np.arange(0, info.num_frames, step)
        self.path, self.backend, self.times = (
            self._video.path,
            self._video.backend,
            self._video.times[self._chosen],
        )
        height, width = self._shrunk(
            torch.empty((1, info.height, info.width, 3), dtype=torch.uint8, device="meta")
        ).shape[1:3]
        self.info = replace(
            info, num_frames=len(self._chosen), fps=info.fps / step, height=height, width=width
        )

    def source(self) -> Source:
        """All frames, to be kept."""
        return Source(self.info, self.backend, self.times, self._all())

    def close(self) -> None:
        self._opened.__exit__(None, None, None)

    def _all(self) -> Iterator[Frame]:
        for frame in self._video.each(self._chosen):
            (shrunk,) = self._shrunk(torch.from_numpy(frame)[None]).numpy()
            yield np.ascontiguousarray(shrunk)

    def _decode(self, wanted: NDArray[np.int64]) -> Frame:
        frames = self._shrunk(torch.from_numpy(self._video.frames(self._chosen[wanted]))).numpy()
        frames = np.ascontiguousarray(frames)
        if self._form.read is not None:
            for frame in frames:
                self._form.read(self._form.write(frame), frame)
        return frames

    def _shrunk(self, frames: torch.Tensor) -> torch.Tensor:
        if self._short_side is None:
            return frames
        return resize_short_side(frames, self._short_side, self._upsample)


class _KeptVideo(VideoReader):
    """A video whose frames are kept."""

    def __init__(self, path: Path, kept: Kept, again: Callable[[], VideoReader]) -> None:
        self.path, self._again = path, again
        self._kept: Kept | VideoReader = kept
        self.info, self.times, self.backend = kept.info, kept.times, kept.backend

    def _decode(self, wanted: NDArray[np.int64]) -> Frame:
        try:
            return self._kept.frames(wanted)
        except DamagedError:
            self._kept.close()
        self._kept = self._again()
        return self._kept.frames(wanted)

    def close(self) -> None:
        self._kept.close()
