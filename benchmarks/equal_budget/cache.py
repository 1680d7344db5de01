"""Videos that are decoded once: small frames in a file a video, which later runs map into memory."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vidssl.data.decode.open import open_video
from vidssl.data.views.crop import resize_short_side

FPS, SIDE = 10.0, 64  # of what is kept: frames a second, and pixels of the short side, both at most


class FrameCache:
    """Opens videos as `vidssl.data.decode.open.open_video` does, from a folder of decoded frames.

    Args:
        folder: where the frames are kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.opened: dict[Path, CachedVideo] = {}
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, path: Path) -> CachedVideo:
        if path not in self.opened:
            self.opened[path] = CachedVideo(path, self._stored(path))
        return self.opened[path]

    def _stored(self, path: Path) -> Path:
        state = path.stat()
        name = hashlib.sha256(f"{path.resolve()} {state.st_size} {state.st_mtime_ns}".encode()).hexdigest()[
            :24
        ]
        file = self.folder / f"{name}.npy"
        if not file.is_file():
            with open_video(path) as video:
                step = max(round(video.info.fps / FPS), 1)
                kept = np.arange(0, video.info.num_frames, step)
                frames = resize_short_side(torch.from_numpy(video.frames(kept)), SIDE).numpy()
                times = video.times[kept]
            for target, array in ((file.with_suffix(".times.npy"), times), (file, frames)):
                partial = target.with_suffix(f".{os.getpid()}")
                with partial.open("wb") as stream:
                    np.save(stream, array)
                partial.replace(target)
        return file


class CachedVideo:
    """What `vidssl.data.dataset` asks of an open video."""

    def __init__(self, path: Path, file: Path) -> None:
        self.path, self.backend = path, "cache"
        self.times = np.load(file.with_suffix(".times.npy"))
        self.kept = np.load(file, mmap_mode="r")

    def frames(self, indices: Any) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return np.ascontiguousarray(self.kept[indices])

    def __enter__(self) -> CachedVideo:
        return self

    def __exit__(self, *_: object) -> None:
        pass
