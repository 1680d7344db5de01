"""The videos of a folder as `vidssl try` takes them: which can be read, which are held out to measure on, and what is odd."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from vidssl.data.manifest.check import check_index
from vidssl.data.manifest.extensions import is_video_name
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.manifest.quarantine import FailedVideo
from vidssl.errors import VidsslError, counted
from vidssl.evaluation.everything import VAL
from vidssl.evaluation.metrics import group_numbers
from vidssl.evaluation.probes.holdout import grouped_split, stratified_split

FEWEST = 8  # videos
HELD_OUT = 1 / 3


@dataclass(frozen=True)
class Found:
    """Readable videos.

    Attributes:
        train: adapted on, and what probes are fitted to.
        val: with labels, held out from both; None where there is nothing to measure accuracies on.
        bad: those that cannot be read.
        notes: sentences for a person.
    """

    train: VideoIndex
    val: VideoIndex | None
    bad: tuple[FailedVideo, ...]
    notes: tuple[str, ...]


def find_videos(folder: str | Path, *, seed: int = 0, workers: int = 2) -> Found:
    """Index, check and split a folder.

    Held out is its own part ``val`` (or ``validation``, ``test``) where it has one beside ``train``, else a third of every class. Videos
    that a list gives one group, or whose names differ in the last number alone, were recorded together and stay together.

    Args:
        folder: class folders, loose files, or a list.
        seed: of the split.
        workers: processes that open videos.

    Raises:
        VidsslError: for what is no such folder, and fewer than `FEWEST` readable videos.
    """
    if Path(folder).is_file() and is_video_name(Path(folder).name):
        raise VidsslError(f"{folder}: is one video; a folder of at least {FEWEST} is needed")
    whole = VideoIndex.read(folder, "skip")
    # What is held out is written down as lists, one video a line.
    odd = tuple(
        FailedVideo(row, path, "its name has a line break, which a list cannot hold", whole.labels[row])
        for row, path in enumerate(whole.paths)
        if not {"\n", "\r"}.isdisjoint(path)
    )
    left_out = {one.video_id for one in odd}
    whole = whole.subset([row for row in range(len(whole)) if row not in left_out])
    report = check_index(whole, workers=max(workers, 1))
    index, bad = report.good, odd + report.bad
    if len(index) < FEWEST:
        broken = (
            f" ({len(bad)} cannot be read, such as {in_a_line(bad[0].path)}: {bad[0].reason})" if bad else ""
        )
        readable = counted(len(index), "readable video")
        raise VidsslError(f"{folder}: {readable}{broken}; at least {FEWEST} are needed")
    notes = list(index.remarks)
    own, index = _own_parts(index), replace(index, groups=recorded_together(index))
    train, val = own or _split(index, seed)
    fitted = Counter(label for row in train if (label := index.labels[row]) is not None)
    known = [row for row in val if index.labels[row] in fitted]
    if len(fitted) < 2 or not known or max(fitted.values()) < 2:
        notes.append(f"no accuracies: {_why_none(index)}; clusters and neighbours instead")
        return Found(replace(index, groups=()), None, bad, tuple(notes))
    which = "" if own is None else ", the folder's own part"
    together = (
        "" if own or not index.groups else "; what was recorded together, by list or names, is kept together"
    )
    notes.append(f"held out: {len(val)} of {len(index)} videos{which}{together}")
    if unseen := sorted({*fitted} - {index.labels[row] for row in val}):
        notes.append(
            f"adapted on and not measured: {counted(len(unseen), 'class')} of which no video is held out ({', '.join(unseen[:5])}{', …' * (len(unseen) > 5)})"
        )
    return Found(index.subset(train), index.subset(val), bad, tuple(notes))


def in_a_line(path: str) -> str:
    """A file's name as it is, unless it would leave its line or is made of what no screen shows."""
    return path if path.isprintable() else repr(path)


def _why_none(index: VideoIndex) -> str:
    """Why there is nothing to measure accuracies on."""
    counts = Counter(label for label in index.labels if label is not None)
    if not counts:
        return "no class folders"
    if len(counts) == 1:
        return f"there is one class, {next(iter(counts))!r}"
    name, most = counts.most_common(1)[0]
    if most < 3:
        return f"too few videos of a class: {name!r} has the most, {most} of {len(index)}, and some are to be held out"
    return "what would be held out has no class that the rest has twice"


def recorded_together(index: VideoIndex) -> Sequence[str | None]:
    """Of each video the group that it was recorded in, as the list says or names tell; empty where neither does.

    Names tell where some differ in their last number alone (``v_Swing_g01_c02``, ``garden-3``), and every class with several videos has
    at least two groups by that, so that some can be held out.
    """
    if index.groups:
        return index.groups
    groups = [_without_last_number(path) for path in index.paths]
    several = [label for label, count in Counter(index.labels).items() if label is not None and count > 1]
    of_class = {
        label: {g for g, x in zip(groups, index.labels, strict=True) if x == label} for label in several
    }
    if len({*groups}) == len(groups) or any(len(found) < 2 for found in of_class.values()):
        return ()
    return tuple(groups)


def _without_last_number(path: str) -> str:
    return re.sub(r"([\W_]+[a-z]?)?\d+$", "", PurePosixPath(path).stem, flags=re.IGNORECASE)


def _own_parts(index: VideoIndex) -> tuple[list[int], list[int]] | None:
    """Rows of the parts that the folder has of its own."""
    first = [path.split("/")[0] if "/" in path else "" for path in index.paths]
    val = next((name for name in VAL if name in first), None)
    if val is None or "train" not in first:
        return None
    held_out = [row for row, name in enumerate(first) if name == val and index.labels[row] not in (None, val)]
    return [row for row, name in enumerate(first) if name != val], held_out


def _split(index: VideoIndex, seed: int) -> tuple[list[int], list[int]]:
    """Rows (kept, held out); those without a label are kept."""
    labelled = np.flatnonzero(index.label_ids >= 0)
    if not len(labelled):
        return list(range(len(index))), []
    labels = torch.from_numpy(index.label_ids[labelled])
    groups, generator = group_numbers(index.groups), np.random.default_rng(seed)
    if groups is None:
        _, out = stratified_split(labels, HELD_OUT, generator)
    else:
        _, out = grouped_split(labels, groups[labelled], HELD_OUT, generator)
    held_out = {*labelled[out.numpy()].tolist()}
    return [row for row in range(len(index)) if row not in held_out], sorted(held_out)
