"""Files of features of frames, as `vidssl extract --draws` writes them: which videos they are of, and the rows of each.

    FILE.safetensors   a tensor (draws, F, R) for every video, float32 or float16; its first draw is what evaluation shows
    FILE.json          `rows`: how they were made; `videos`: path, label, name of the tensor, times of the F frames

They are mapped into memory, not read: what a step does not draw stays on the disk.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vidssl.data.clips import Times
from vidssl.data.manifest.content import content_hash
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.manifest.quarantine import FailedVideo
from vidssl.errors import VidsslError
from vidssl.files import read_json

# What must be the same in several files that are trained on together.
SAME = ("trunk", "dim", "grid", "layer", "width", "size", "draws")


class Place(NamedTuple):
    """Where the rows of a video are: the number of its file, and the name of the tensor there."""

    file: int
    tensor: str


@dataclass
class FeatureStore:
    """The features of N videos in one or more files.

    Attributes:
        files: the safetensors files.
        made: how they were made, see `SAME`.
        index: the videos that have features. failed: the others, with the reason.
        times: of each, (F,) seconds since its first frame.
    """

    files: tuple[Path, ...]
    made: Mapping[str, Any]
    index: VideoIndex
    failed: tuple[FailedVideo, ...]
    times: Sequence[Times] = field(repr=False)
    _places: Sequence[Place] = field(repr=False)
    _open: dict[int, Any] = field(default_factory=dict, repr=False)

    def rows(self, video: int) -> Tensor:
        """(draws, F, R) of a video, in the file's own dtype; a look into the file, not to be written to."""
        file, tensor = self._places[video]
        if file not in self._open:
            self._open[file] = safe_open(self.files[file], "pt")
        rows: Tensor = self._open[file].get_tensor(tensor)
        return rows

    def digest(self) -> str:
        """64 hexadecimal digits of all files, by their `content_hash`."""
        found = hashlib.sha256()
        for file in self.files:
            found.update(f"{content_hash(file)}\0{content_hash(file.with_suffix('.json'))}\n".encode())
        return found.hexdigest()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_open": {}}  # every process opens the files itself


def read_features(source: str | Path) -> FeatureStore:
    """The features in a file, or in all such files of a folder, in the order of their names.

    Raises:
        VidsslError: nothing there, a file that is torn or of something else, or files that were made differently.
    """
    path = Path(source).expanduser()
    files = tuple(sorted(path.glob("*.safetensors"))) if path.is_dir() else (path,)
    if not files or not files[0].is_file():
        raise VidsslError(
            f"{source}: no features of frames there; `vidssl extract MODEL VIDEOS FILE.safetensors --draws 4` writes them"
        )
    records = [_record(file) for file in files]
    made = records[0]["rows"]
    names, labels, times, places, failed = [], [], [], [], []
    for number, (file, record) in enumerate(zip(files, records, strict=True)):
        for key in SAME:
            own, other = record["rows"].get(key), made.get(key)
            if own != other:
                raise VidsslError(
                    f"{file}: {key} {own}: in {files[0].name} it is {other}; keep them in different folders"
                )
        before = f"{file.stem}/" if len(files) > 1 else ""
        for video in record["videos"]:
            name = f"{before}{video['path']}"
            if video["tensor"] is None:
                failed.append(FailedVideo(-1, name, video.get("reason", "has no features"), video["label"]))
                continue
            names.append(name)
            labels.append(video["label"])
            times.append(np.asarray(video["times"], dtype=np.float64))
            places.append(Place(number, video["tensor"]))
    if not names:
        raise VidsslError(f"{source}: has features of none of its {len(failed)} videos")
    root = path if path.is_dir() else path.parent
    return FeatureStore(files, made, VideoIndex.of(root, names, labels), tuple(failed), times, places)


def _record(file: Path) -> dict[str, Any]:
    """What stands beside a file; checks that the file has the tensors that it names."""
    other = f"{file}: holds no features of frames; `vidssl extract --draws` writes them"
    names_file = file.with_suffix(".json")
    if not names_file.is_file():
        raise VidsslError(f"{other} ({names_file.name} is missing)")
    record = read_json(names_file)
    try:
        made = record["rows"]
        row = int(made["dim"]) + int(made["grid"]) ** 2 * int(made["width"])
        there = {v["tensor"]: [made["draws"], len(v["times"]), row] for v in record["videos"] if v["tensor"]}
        with safe_open(file, "pt") as opened:
            shapes = {name: opened.get_slice(name).get_shape() for name in there}
    except (OSError, SafetensorError) as error:
        raise VidsslError(f"{file}: torn or damaged ({' '.join(str(error).split())})") from None
    except (KeyError, TypeError, ValueError):
        raise VidsslError(other) from None
    for name, shape in there.items():
        if shapes[name] != shape:
            raise VidsslError(f"{file}: tensor {name}: {shapes[name]}, not {shape} as {names_file.name} says")
    return record
