"""An encoder tried on one video: what it shows over time, which videos are near it, and where a box goes. HTML and files, for
the local page (`vidssl.reporting.app`) or a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from markupsafe import Markup
from numpy.typing import NDArray

from vidssl.data.decode.open import open_video
from vidssl.data.manifest.check import check_index
from vidssl.data.manifest.extensions import is_video_name
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError, check_value
from vidssl.evaluation.answers.timeline import filled, windows_of
from vidssl.evaluation.classify import classify
from vidssl.evaluation.features import extract_features
from vidssl.evaluation.probes.knn import knn_scores
from vidssl.evaluation.setup import EvalOptions, load_subject
from vidssl.evaluation.tracking.run.options import TrackOptions
from vidssl.evaluation.tracking.run.track import track
from vidssl.reporting.charts import Line, lines
from vidssl.reporting.report import style
from vidssl.reporting.thumbnails import thumbnails
from vidssl.reporting.videos import MOST, spread

SHOWN = 6  # classes in a chart, and neighbours
VOTERS = 5  # neighbours that vote
FOLLOWED, SIDE = (
    30,
    256,
)  # frames, and pixels of the window in which a box is looked for: half a minute on a CPU
LARGEST, LONGEST, MOST_NAMES = 200 << 20, 100, 50  # bytes of a file; characters of a class name; classes


def require_video(file: str | Path, largest: int = LARGEST) -> Path:
    """Insist that a file from outside is a video, before anything in this process touches it: another process opens it.

    Raises:
        VidsslError: for another ending, more bytes, or a file that cannot be opened, in one line.
    """
    path = Path(file)
    if not is_video_name(path.name):
        raise VidsslError(f"{path.name}: does not end like a video (.mp4, .mkv, .webm, .avi, .mov, …)")
    if path.stat().st_size > largest:
        raise VidsslError(f"{path.name}: {path.stat().st_size >> 20} MiB; {largest >> 20} at most")
    report = check_index(VideoIndex.of_files([path]), workers=1, cache=False, progress=False)
    if report.bad:
        raise VidsslError(f"{path.name}: {report.bad[0].reason}")
    return path


def labels_over_time(
    checkpoint: str | Path,
    video: str | Path,
    labels: str,
    window: float = 2.0,
    options: EvalOptions | None = None,
) -> Markup:
    """The probabilities of classes over the windows of a video, those first that are likeliest in all of it.

    Args:
        labels: class names separated by commas.
        window: seconds.

    Raises:
        VidsslError: see `classify`; an encoder without a text tower has no names for what it sees, see `labels_of_neighbours`.
    """
    names = [name.strip() for name in labels.split(",") if name.strip()]
    check_value("classes", len(names), 2 <= len(names) <= MOST_NAMES, f"2 to {MOST_NAMES} names with commas between them")  # fmt: skip
    for name in names:
        check_value("class", name[:20] + "…", len(name) <= LONGEST, f"at most {LONGEST} characters")
    # The comma at the end: no name is taken for that of a file.
    result = classify(checkpoint, video, ",".join(names) + ",", window=window, options=options)
    found = list(result["probabilities"])
    over_time = [(x["start"], x["end"], [x["probabilities"][name] for name in found]) for x in result["over_time"]]  # fmt: skip
    return _timeline(found, list(result["probabilities"].values()), over_time, "probability of each class")


def labels_of_neighbours(
    checkpoint: str | Path,
    video: str | Path,
    folder: str | Path,
    window: float = 2.0,
    options: EvalOptions | None = None,
) -> Markup:
    """The same by the votes of the nearest videos of a labelled folder, for encoders that know no words.

    Raises:
        VidsslError: for a folder without two classes, and videos that cannot be read.
    """
    subject = replace(load_subject(checkpoint, options), untrained=None)
    index = _shown_of(folder)[0]
    index = index.subset([row for row, label in enumerate(index.labels) if label is not None])
    check_value(
        f"{folder}: classes", len({*index.labels}), len({*index.labels}) > 1, "at least 2, as folders"
    )
    known = extract_features(subject, index, description="known videos")
    ok = known.ok["trained"]
    with closing(open_video(video, subject.options.backend)) as reader:
        windows = windows_of(reader.times, window, None)
    options = replace(subject.options, clips=len(windows), seconds=window, stride=None)
    seen = extract_features(replace(subject, options=options), VideoIndex.of_files([video]), apart=True, description="windows")  # fmt: skip
    if seen.failures:
        raise VidsslError(f"{Path(video).name}: {seen.failures[0].reason}")
    rows = rearrange(seen.features["trained"][0], "(w c) d -> w c d", w=len(windows)).mean(dim=1)
    rows = filled(rows, rearrange(seen.shown[0], "(w c) -> w c", w=len(windows))[:, 0])
    votes = knn_scores(known.features["trained"][ok], torch.from_numpy(index.label_ids)[ok], rows, VOTERS, len(index.classes))  # fmt: skip
    votes = votes / votes.sum(dim=1, keepdim=True)
    order = votes.mean(dim=0).argsort(descending=True).tolist()
    over_time = [(*times, row[order].tolist()) for times, row in zip(windows, votes, strict=True)]
    names = [index.classes[i] for i in order]
    return _timeline(names, votes.mean(dim=0)[order].tolist(), over_time, f"share of the {VOTERS} nearest videos' votes")  # fmt: skip


def _timeline(
    names: Sequence[str],
    whole: Sequence[float],
    over_time: Sequence[tuple[float, float, Sequence[float]]],
    title: str,
) -> Markup:
    """A chart of numbers by name and window, the likeliest names first, and what holds for all of the video."""
    middles = [(start + end) / 2 for start, end, _ in over_time]
    series = [Line(name, middles, [row[i] for *_, row in over_time]) for i, name in enumerate(names[:SHOWN])]
    said = ", ".join(
        f"{name} {100 * share:.0f} %" for name, share in list(zip(names, whole, strict=True))[:3]
    )
    return framed(
        Markup('<div class="charts">{}</div><p>{}</p>').format(
            lines(series, title, "seconds"), f"in all: {said}"
        )
    )


def neighbours(
    checkpoint: str | Path, video: str | Path, folder: str | Path, options: EvalOptions | None = None
) -> Markup:
    """The videos of a folder, at most `MOST` of them spread over it, of the largest cosine with this one.

    Raises:
        VidsslError: for videos that cannot be read.
    """
    subject = replace(load_subject(checkpoint, options), untrained=None)
    index, notes = _shown_of(folder)
    query = extract_features(subject, VideoIndex.of_files([video]), description="query")
    if query.failures:
        raise VidsslError(f"{Path(video).name}: {query.failures[0].reason}")
    found = extract_features(subject, index, description="neighbours")
    rows = F.normalize(found.features["trained"], dim=1) @ F.normalize(query.features["trained"][0], dim=0)
    order = rows.masked_fill(~found.ok["trained"], -2).argsort(descending=True).tolist()[:SHOWN]
    order = [row for row in order if bool(found.ok["trained"][row])]
    pictures = thumbnails(index, order, workers=subject.options.workers)
    cards = Markup("").join(
        Markup('<figure class="card"><img alt="{0}" src="{1}"><figcaption>{0}<small>cosine {2}</small></figcaption></figure>')
        .format(index.labels[row] or Path(index.paths[row]).name, pictures[row], f"{rows[row]:.2f}")
        for row in order
    )  # fmt: skip
    said = Markup("").join(Markup("<p>{}</p>").format(note) for note in notes)
    return framed(Markup('<div class="row">{}</div>').format(cards) + said)


def _shown_of(folder: str | Path) -> tuple[VideoIndex, list[str]]:
    return spread(VideoIndex.read(folder, "skip"), MOST)


def follow(
    checkpoint: str | Path, video: str | Path, box: Sequence[float], file: str | Path, frames: int = FOLLOWED
) -> Path:
    """Write the video with the box drawn where the encoder takes it to go.

    Args:
        box: (x, y, w, h) in pixels of the first frame, its upper left corner at (0, 0).
        file: mp4 to write.
        frames: at most so many.

    Raises:
        VidsslError: for a box without area or outside of the frame, or a video that cannot be read.
    """
    check_value("box", tuple(box), len(box) == 4 and min(box[2:]) > 0, "x, y, w, h with w and h above 0")
    x, y, w, h = map(float, box)
    height, width = first_frame(video).shape[:2]
    inside = 0 <= x < width and 0 <= y < height
    check_value("box", tuple(box), inside, f"inside of the first frame, {width} x {height} pixels")
    options = TrackOptions(box=(x, y, w, h), max_frames=frames, size=SIDE)
    return Path(track(checkpoint, video, "sot", options=options, video=Path(file))["figures"][0])


def first_frame(video: str | Path) -> NDArray[np.uint8]:
    """(H, W, 3) uint8."""
    with closing(open_video(video)) as reader:
        frame: NDArray[np.uint8] = reader.frames([0])[0]
    return frame


def framed(content: Markup) -> Markup:
    """HTML in a frame of its own, so that its style and that of the page round it do not meet, and nothing in it can run."""
    page = f"<!DOCTYPE html><meta charset=utf-8><style>{style()}</style><body>{content}</body>"
    return Markup('<iframe sandbox style="width:100%;height:420px;border:0" srcdoc="{}"></iframe>').format(
        page
    )
