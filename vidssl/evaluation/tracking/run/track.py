"""One call from an encoder and sequences to the scores of a task, beside those of the baselines that keep them honest.

>>> result = track("runs/first", "DAVIS", "vos", plot="strips.png")
>>> result["scores"]["encoder"]["mean"]["J&F"], result["scores"]["first label copied"]["mean"]["J&F"]
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vidssl.environment import environment
from vidssl.errors import VidsslError, did_you_mean
from vidssl.evaluation.results.protocol import sealed
from vidssl.evaluation.tracking.layouts import Found, find_sequences
from vidssl.evaluation.tracking.layouts.mots import is_mots, mots_masks
from vidssl.evaluation.tracking.layouts.tables import read_detections
from vidssl.evaluation.tracking.run.many import ManyBoxes, ManyMasks
from vidssl.evaluation.tracking.run.options import DETECTIONS, TrackOptions, names_of
from vidssl.evaluation.tracking.run.pictures import Pictures
from vidssl.evaluation.tracking.run.pose import Pose
from vidssl.evaluation.tracking.run.single import SingleObject
from vidssl.evaluation.tracking.run.sources import ENCODER, NotFiniteError, Source, Sources, load_sources
from vidssl.evaluation.tracking.run.summary import difference, summarise
from vidssl.evaluation.tracking.run.task import Scores, Task, Tracked
from vidssl.evaluation.tracking.run.video_objects import VideoObjects
from vidssl.evaluation.tracking.sequence import Sequence
from vidssl.files import newest_checkpoint
from vidssl.progress import Progress

TASKS: dict[str, Callable[[TrackOptions], Task]] = {
    "sot": SingleObject,
    "vos": VideoObjects,
    "mot": ManyBoxes,
    "mots": ManyMasks,
    "pose": Pose,
}


def track(
    checkpoint: str | Path,
    data: str | Path,
    task: str,
    *,
    options: TrackOptions | None = None,
    video: str | Path | None = None,
    plot: str | Path | None = None,
) -> dict[str, Any]:
    """Track in every sequence with every row's features, and score what was tracked.

    A sequence that cannot be read, does not fit its truth or has nothing to start from is named and left out of all rows alike; one
    without truth beyond its first frame is drawn. Features that are not finite take their row's number away.

    Args:
        checkpoint: whatever names an encoder (`vidssl.load_encoder`).
        data: a video, a folder of frames, or a data set (`find_sequences`).
        task: "sot", "vos", "mot", "mots" or "pose".
        video: draw what the encoder tracked as mp4; of several sequences one each, with its name behind the file's.
        plot: draw some frames of each sequence as a PNG.

    Returns:
        JSON-able result; see docs/tracking.md.

    Raises:
        VidsslError: a wrong option, no encoder, no sequences, or none of them that the task can use.
    """
    options = options or TrackOptions()
    options.check(task)
    pictures = Pictures(video, plot)
    chosen = TASKS[task](options)
    found = _chosen(find_sequences(data), options, data)
    if Path(options.detections).is_file() and len(found) > 1:
        raise VidsslError(
            f"detections={options.detections}: one file, but {len(found)} sequences; must be a folder with <sequence>.txt"
        )
    sources = load_sources(checkpoint, options)
    settings = options.settings(task, stride=sources.rows[0].stride, layer=sources.layer)
    table = _Table(chosen, sources)
    rows = len(sources.rows)
    with Progress("tracking", rows * len(found), "row", delay=1) as bar:
        for number, item in enumerate(found, start=1):
            bar.note = item.name
            try:
                table.add(_read(item, options), pictures, len(found) > 1, bar)
            except VidsslError as error:
                table.failed.append({"path": item.name, "reason": str(error)})
            bar.update(number * rows - bar.done)
    table.require_any(data, task)
    pictures.close()
    record = {
        "task": f"track-{task}",
        "checkpoint": str(checkpoint),
        "loaded": str(newest_checkpoint(Path(checkpoint)) or checkpoint),
        "model": {key: value for key, value in sources.spec.items() if key != "model_cfg"},
        "settings": settings,
        "data": {"path": str(data), "sequences": len(found), **table.data()},
        "metrics": list(chosen.metrics),
        "counts": sorted(chosen.counts),
        "seed": options.seed,
        **table.scores(options.seed),
        "notes": _notes(checkpoint, sources),
        "figures": pictures.files,
        "environment": environment(),
    }
    return sealed(record)


class _Table:
    """Rows of scores, filled one sequence after the other."""

    def __init__(self, task: Task, sources: Sources) -> None:
        self._task, self._sources = task, sources
        self._units: dict[str, dict[str, list[Scores]]] = {row.name: {} for row in sources.rows}
        self._not_finite: dict[str, list[str]] = {}
        self._digest = hashlib.sha256()
        self._frames = self._scored = self._tracked = 0
        self.failed: list[dict[str, str]] = []
        self.lacking: list[dict[str, str]] = []
        self.unscored: list[dict[str, str]] = []
        self.remarks: list[dict[str, str]] = []

    def add(self, sequence: Sequence, pictures: Pictures, several: bool, bar: Progress) -> None:
        """Track in one sequence.

        Raises:
            VidsslError: one that cannot be used; no row has any score of it then.
        """
        if lack := self._task.lacks(sequence):
            self.lacking.append({"path": sequence.name, "reason": lack})
            return
        if len(sequence) < 2:
            raise VidsslError(f"{sequence.name}: one frame, nothing to track")
        reason = self._task.unscored(sequence)
        if reason:
            note = "; it is drawn" if pictures.wanted else "; --video or --plot draws what was tracked"
            self.unscored.append({"path": sequence.name, "reason": reason + note})
            if not pictures.wanted:
                self._tracked += 1
                return
        rows = self._sources.rows[:1] if reason else self._sources.rows
        scores: dict[str, list[Scores]] = {}
        for row in rows:
            tracked = self._followed(row, sequence)
            bar.update()
            if tracked is None:
                continue
            if row.name == ENCODER and tracked.remark:
                self.remarks.append({"path": sequence.name, "reason": tracked.remark})
            if row.name == ENCODER and pictures.wanted:
                pictures.add(sequence, tracked, self._task.truth(sequence), several)
            if not reason:
                scores[row.name] = self._task.score(tracked, sequence)
        self._tracked += 1
        if reason:
            return
        for name, tracked in self._task.plain(sequence).items():
            scores[name] = self._task.score(tracked, sequence)
        for name, own in scores.items():
            self._units.setdefault(name, {})[sequence.name] = own
        self._scored += 1
        self._frames += len(sequence)
        self._digest.update(_digest(sequence))

    def require_any(self, data: str | Path, task: str) -> None:
        """Raises VidsslError where no sequence could be tracked in, with the reasons."""
        if self._tracked:
            return
        reasons = [f"{record['path']}: {record['reason']}" for record in [*self.failed, *self.lacking]]
        more = f" … and {len(reasons) - 3} more" if len(reasons) > 3 else ""
        raise VidsslError(f"{data}: no sequence for task {task}: {'; '.join(reasons[:3])}{more}")

    def data(self) -> dict[str, Any]:
        """What the result says of the sequences."""
        return {
            "scored": self._scored,
            "frames": self._frames,
            "digest": self._digest.hexdigest()[:16],
            "remarks": self.remarks,
            "unscored": self.unscored,
            "lacking": self.lacking,
            "failed": self.failed,
        }

    def scores(self, seed: int) -> dict[str, Any]:
        """Means by row, and the encoder's difference to each of the others."""
        metrics = self._task.metrics
        rows = {}
        for name, units in self._units.items():
            broken = self._not_finite.get(name, [])
            rows[name] = {**summarise({} if broken else units, metrics, seed), "not_finite": broken}
        whole = {name: units for name, units in self._units.items() if rows[name]["objects"]}
        compared = {
            name: difference(whole[ENCODER], units, metrics[0], seed)
            for name, units in whole.items()
            if ENCODER in whole and name != ENCODER
        }
        return {"scores": rows, "comparisons": compared}

    def _followed(self, row: Source, sequence: Sequence) -> Tracked | None:
        try:
            return self._task.follow(row, sequence)
        except NotFiniteError:
            self._not_finite.setdefault(row.name, []).append(sequence.name)
            return None


def _chosen(found: list[Found], options: TrackOptions, data: str | Path) -> list[Found]:
    """Those that are asked for.

    Raises:
        VidsslError: a name that is not there.
    """
    names = names_of(options.sequences)
    if names is None:
        return found
    there = {item.name: item for item in found}
    for name in names:
        if name not in there:
            raise VidsslError(
                f"{data}: no sequence {name!r}{did_you_mean(name, there)} (there are {len(there)}, such as {next(iter(there))})"
            )
    return [there[name] for name in names]


def _read(item: Found, options: TrackOptions) -> Sequence:
    sequence = item.read()
    if options.detections not in DETECTIONS:
        place = Path(options.detections)
        file = place / f"{item.name}.txt" if place.is_dir() else place
        if is_mots(file):
            found = mots_masks(file, len(sequence), sequence.size, named=False)
            sequence = replace(sequence, detected=found, detections=None)
        else:
            sequence = replace(sequence, detections=read_detections(file), detected=None)
    return sequence if options.max_frames is None else sequence.head(options.max_frames)


def _digest(sequence: Sequence) -> bytes:
    """Name, length, and whatever truth there is, as bytes; of masks the given ones."""

    def parts() -> Iterator[bytes]:
        yield f"{sequence.name} {len(sequence)} {sequence.size}".encode()
        for values in (sequence.boxes, sequence.objects, sequence.detections):
            yield b"-" if values is None else np.ascontiguousarray(values).tobytes()
        if sequence.others is not None:
            yield np.ascontiguousarray(sequence.others).tobytes()
        for figure, points in sorted((sequence.keypoints or {}).items()):
            yield str(figure).encode() + np.ascontiguousarray(points).tobytes()
        for maps in (sequence.masks, sequence.detected):
            for index in range(len(maps or ())):
                mask = maps[index] if maps is not None else None
                yield b"-" if mask is None else np.ascontiguousarray(mask).tobytes()

    return hashlib.sha256(b"|".join(hashlib.sha256(part).digest() for part in parts())).digest()


def _notes(checkpoint: str | Path, sources: Sources) -> list[str]:
    notes = []
    if sources.spec.get("pretrained") is None and not Path(checkpoint).exists():
        notes.append(f"{checkpoint} names no weights: these are random")
    if not any(row.name == "untrained" for row in sources.rows):
        notes.append("the encoder that this one started from is not kept beside it, so its score is missing")
    return notes
