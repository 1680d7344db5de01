"""Each form of a data set, written of the videos of an index, in their order.

Every writer takes an index and an empty folder and returns what a user would name as data. Links and tar members are called by
their numbers, so that the order by name is that of the index.
"""

from __future__ import annotations

import csv
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from vidssl.data.decode.open import find_timeline, open_video
from vidssl.data.decode.reader import DecodeError
from vidssl.data.manifest.indexing import write_index
from vidssl.data.manifest.manifest import VideoIndex

SHARD = 500  # videos
Writer = Callable[[VideoIndex, Path], str]
Rows = Iterator[tuple[int, Path, str]]


def rows(index: VideoIndex) -> Rows:
    """Number, file and label of every video; a video without a label gets one."""
    for i in range(len(index)):
        yield i, index.path(i), index.labels[i] or "none"


def numbered(index: VideoIndex) -> dict[str, int]:
    """label -> number"""
    return {name: number for number, name in enumerate(sorted({label for _, _, label in rows(index)}))}


def _lines(folder: Path, lines: Iterator[str]) -> str:
    (folder / "train.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(folder / "train.txt")


def path_and_label(index: VideoIndex, folder: Path) -> str:
    """A header, commas and quotes, as `vidssl data index --output` writes it."""
    index.write(folder / "train.csv")
    return str(folder / "train.csv")


def path_and_number(index: VideoIndex, folder: Path) -> str:
    """SlowFast's and pytorchvideo's: a blank, a number, and the names beside the list."""
    ids = numbered(index)
    with (folder / "classes.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("id", "name"), *((number, name) for name, number in ids.items())])
    return _lines(folder, (f"{path} {ids[label]}" for _, path, label in rows(index)))


def first_and_all(index: VideoIndex, folder: Path) -> str:
    """VideoMAE v2's: path, first frame, -1 for all of it."""
    return _lines(folder, (f"{path} 0 -1" for _, path, _ in rows(index)))


def double_colons(index: VideoIndex, folder: Path) -> str:
    """V-JEPA's."""
    ids = numbered(index)
    return _lines(folder, (f"{path}::{ids[label]}" for _, path, label in rows(index)))


def array_of_paths(index: VideoIndex, folder: Path) -> str:
    """V-JEPA's, too."""
    np.save(folder / "train.npy", np.array([str(path) for _, path, _ in rows(index)]))
    return str(folder / "train.npy")


def metadata(index: VideoIndex, folder: Path) -> str:
    """Hugging Face's `videofolder`."""
    lines = ({"file_name": str(path), "label": label} for _, path, label in rows(index))
    (folder / "metadata.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return str(folder)


def linked(index: VideoIndex, folder: Path) -> list[tuple[str, str]]:
    """Videos called by their numbers; (name without suffix, label) of each."""
    (folder / "videos").mkdir()
    for i, path, _ in rows(index):
        (folder / f"videos/{i:06}{path.suffix}").symlink_to(path.absolute())
    return [(f"{i:06}", label) for i, _, label in rows(index)]


def kinetics(index: VideoIndex, folder: Path) -> str:
    """An annotation file that holds two splits."""
    with (folder / "kinetics.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("label", "youtube_id", "time_start", "time_end", "split"))
        table.writerow(("none", "elsewhere00", 0, 10, "test"))
        table.writerows((label, name, 0, 10, "train") for name, label in linked(index, folder))
    return f"{folder / 'kinetics.csv'}#split=train"


def something(index: VideoIndex, folder: Path) -> str:
    """Something-Something's JSON."""
    found = [{"id": name, "template": f"[{label}]"} for name, label in linked(index, folder)]
    (folder / "train.json").write_text(json.dumps(found))
    return str(folder / "train.json")


def shards(index: VideoIndex, folder: Path, each: int = SHARD) -> str:
    """Tar files as webdataset has them: 000012.mp4 and 000012.cls."""
    ids, tar = numbered(index), None
    for i, path, label in rows(index):
        if i % each == 0:
            if tar is not None:
                tar.close()
            tar = tarfile.open(folder / f"train-{i // each:03}.tar", "w")  # noqa: SIM115
        _add(tar, f"{i:06}{path.suffix}", path.read_bytes())
        _add(tar, f"{i:06}.cls", str(ids[label]).encode())
    if tar is not None:
        tar.close()
    return f"{folder}/train-{{000..{(len(index) - 1) // each:03}}}.tar"


def _add(tar: Any, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def members(index: VideoIndex, folder: Path) -> str:
    """X-CLIP's list of members of tar files."""
    shards(index, folder)
    return _lines(folder, (f"train-{i // SHARD:03}.tar@{i:06}{path.suffix} 0" for i, path, _ in rows(index)))


def _hugging_face(index: VideoIndex) -> Any:
    import datasets

    datasets.disable_progress_bars()
    names = [*numbered(index)]
    features = datasets.Features(
        {"video": datasets.Video(decode=False), "label": datasets.ClassLabel(names=names)}
    )
    videos = [{"bytes": path.read_bytes(), "path": path.name} for _, path, _ in rows(index)]
    return datasets.Dataset.from_dict(
        {"video": videos, "label": [label for _, _, label in rows(index)]}, features=features
    )


def saved(index: VideoIndex, folder: Path) -> str:
    """`Dataset.save_to_disk` of Hugging Face's `datasets`."""
    _hugging_face(index).save_to_disk(str(folder / "saved"))
    return str(folder / "saved")


def parquet(index: VideoIndex, folder: Path) -> str:
    """The same as parquet."""
    _hugging_face(index).to_parquet(str(folder / "train.parquet"))
    return str(folder)


def manifest(index: VideoIndex, folder: Path) -> str:
    """What `vidssl data index` writes."""
    return str(write_index(index, folder / "train.arrow", progress=False).file)


def manifest_of_shards(index: VideoIndex, folder: Path) -> str:
    """The same of tar files."""
    return manifest(VideoIndex.read(shards(index, folder)), folder)


def steady_rate(path: Path) -> float | None:
    """Frames a second of a video whose frames all last equally long, as those of a folder of pictures do; else None."""
    line = find_timeline(path)
    if line.pts is None or len(line.pts) < 2 or len({*np.diff(line.pts).tolist()}) > 1:
        return None
    return float(1 / (line.tick * (line.pts[1] - line.pts[0])))


def pictures(index: VideoIndex, folder: Path, suffix: str) -> list[int]:
    """A folder of frames for each video, and ``train.csv`` of these with their rates.

    Returns:
        The videos in it: those whose frames last equally long and can all be decoded.
    """
    jobs = [(path, folder / f"{i:06}", suffix) for i, path, _ in rows(index)]
    with get_context("fork").Pool(2) as pool:
        rates = pool.starmap(_write_pictures, jobs, chunksize=8)
    with (folder / "train.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("path", "label", "fps"))
        for (i, _, label), rate in zip(rows(index), rates, strict=True):
            if rate is not None:
                table.writerow((f"{i:06}", label, repr(rate)))
    return [i for i, rate in enumerate(rates) if rate is not None]


def _write_pictures(path: Path, place: Path, suffix: str) -> float | None:
    """One that was left unfinished is written anew; a finished one has its name."""
    from PIL import Image

    if (rate := steady_rate(path)) is None or place.is_dir():
        return rate
    partial = place.with_name(f"{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    options: dict[str, Any] = {"compress_level": 1} if suffix == ".png" else {"quality": 92}
    try:
        with open_video(path) as video:
            for number, frame in enumerate(video.each(np.arange(video.info.num_frames))):
                Image.fromarray(frame).save(partial / f"{number:05}{suffix}", **options)
    except DecodeError:
        shutil.rmtree(partial)
        return None
    partial.rename(place)
    return rate


SAME_FILES: dict[str, Writer] = {
    "list, path,label": path_and_label,
    "list, path number (SlowFast)": path_and_number,
    "list, path 0 -1 (VideoMAE v2)": first_and_all,
    "list, path::number (V-JEPA)": double_colons,
    "array of paths (V-JEPA)": array_of_paths,
    "videofolder (Hugging Face)": metadata,
    "Kinetics CSV": kinetics,
    "Something-Something JSON": something,
    "tar shards (webdataset)": shards,
    "list of tar members (X-CLIP)": members,
    "manifest": manifest,
    "manifest of tar shards": manifest_of_shards,
}
HUGGING_FACE: dict[str, Writer] = {
    "datasets, saved (Hugging Face)": saved,
    "datasets, parquet (Hugging Face)": parquet,
}
