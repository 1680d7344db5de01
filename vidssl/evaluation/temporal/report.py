"""`vidssl temporal`: from an encoder and videos to what it knows of time, beside what single frames know.

>>> result = temporal("runs/first", "data/ucf101/val")
>>> result = temporal("runs/first")      # on rendered noise, in which motion alone carries the class
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError, check_value, counted
from vidssl.evaluation.answers.record import answers_record
from vidssl.evaluation.classes import class_list, join_labels
from vidssl.evaluation.metrics import group_numbers
from vidssl.evaluation.report import Result, data_record, list_hash, result_header
from vidssl.evaluation.results.protocol import sealed
from vidssl.evaluation.setup import EvalOptions, Subject, load_subject, read_labelled
from vidssl.evaluation.temporal.questions import (
    FOLDS,
    PENALTY,
    Known,
    gap,
    naming_classes,
    score_of,
    telling_apart,
    versions,
)
from vidssl.evaluation.temporal.ways import BAG, CLIP, FAST, FAST_BAG, FRAME, REVERSED, SHUFFLED
from vidssl.evaluation.temporal.windows import Shown, encode_windows, rendered_noise

CLIPS = 60  # of each class that is rendered
RENDERED = "noise in motion (rendered)"
# What is told apart, and the same of single frames, which know nothing of order and direction by construction.
PAIRS = {
    "frame order": ((CLIP, SHUFFLED), (BAG, BAG)),
    "playback direction": ((CLIP, REVERSED), (BAG, BAG)),
    "speed": ((CLIP, FAST), (BAG, FAST_BAG)),
}
CLASSES, LESS = "classes", (SHUFFLED, BAG, FRAME)


def temporal(
    checkpoint: str | Path,
    data: str | Path | None = None,
    *,
    clips: int = CLIPS,
    seed: int = 0,
    options: EvalOptions | None = None,
) -> Result:
    """Ask an encoder's clip features for the order, direction and speed of frames, and for classes with less and less of time.

    Args:
        checkpoint: whatever names an encoder, see `load_encoder`; of a run also the encoder it started from.
        data: videos; those with labels are asked for these too. None: noise in motion is rendered.
        clips: of each class that is rendered to be asked about, and as many others to fit the probes on.
        seed: of what is rendered, of shuffled frames, of folds and of resampling.
        options: how videos are shown; one clip from the middle of each, whatever `clips` says.

    Returns:
        JSON-able result; see docs/evaluation.md. ``scores`` by ``<encoder>, <question>``, with ``, <shown how>`` behind it where less is
        shown; ``gaps``: what is lost by it, paired.

    Raises:
        VidsslError: for data that cannot be used, and a number of clips below 4.
    """
    check_value("clips", clips, clips >= FOLDS, f"at least {FOLDS}")
    options = replace(options or EvalOptions(), clips=1, crops=1)
    if data is not None:
        return _measured(load_subject(checkpoint, options), data, str(data), seed)
    if options.seconds is not None:
        raise VidsslError(
            f"seconds={options.seconds:g}: noise is rendered for clips with a stride; leave it out, or name videos"
        )
    options = replace(options, stride=options.stride or 1)
    subject = load_subject(checkpoint, options)
    step = subject.options.spec(subject.encoder).clip
    with rendered_noise(clips, 2 * step.frames * (step.stride or 1), seed) as folder:
        return _measured(subject, folder / "val", RENDERED, seed, folder / "train")


def _measured(subject: Subject, data: str | Path, name: str, seed: int, fit: Path | None = None) -> Result:
    """`fit`: labelled videos on which probes are fitted; None for folds of the videos themselves."""
    everything = VideoIndex.read(data, subject.options.missing)
    labelled = len(everything.classes) > 1
    index, left_out = read_labelled(data, subject.options) if labelled else (everything, ())
    shown = encode_windows(subject, index, seed)
    numbers = group_numbers(index.groups)
    groups = torch.arange(len(index)) if numbers is None else numbers
    asked = _Asked(shown, groups, seed)
    if fit is not None:
        others = VideoIndex.read(fit)
        assert others.classes == index.classes, "labels of both are places in one list"
        asked.fit = encode_windows(subject, others, seed), torch.from_numpy(others.label_ids)
    for question, (ways, control) in PAIRS.items():
        asked.pair(
            question, ways, control, shown.long if question == "speed" else torch.ones_like(shown.long)
        )
    record: dict[str, Any] = {}
    if labelled:
        classes = class_list(index.classes, name)
        joined = join_labels(index.labels, classes, name)
        record["classes"] = {"names": classes.names, "hash": list_hash(classes.names), **joined.record()}
        asked.classes(joined.ids, len(classes.names))
        record["answers"] = answers_record(index, asked.right)
    short = int((~shown.long).sum())
    notes = [
        f"{short} of {counted(len(index), 'video')} {'has' if short == 1 else 'have'} too few frames for a window of twice a clip: left out of speed"
    ] * bool(short)
    return sealed(
        {
            **result_header("temporal", subject),
            "data": {**data_record(data, index, shown.failures, unlabelled=left_out), "path": name},
            **record,
            "seed": seed,
            "folds": FOLDS if fit is None else None,
            "fitted_on": None if asked.fit is None else len(asked.fit[1]),
            "penalty": PENALTY,
            "notes": notes
            + _constant(shown)
            + ["without labels: classes are not asked for"] * (not labelled),
            "scores": asked.scores,
            "comparisons": asked.comparisons,
            "gaps": asked.gaps,
        }
    )


def _constant(shown: Shown) -> list[str]:
    """A line for each encoder that gives all videos, whatever is shown of them, the same features."""
    found = []
    for name, ways in shown.features.items():
        rows = torch.cat([x[shown.ok[name]] for x in ways.values()])
        if bool((rows.amax(0) - rows.amin(0)).max() <= 1e-6 * rows.abs().max()):
            found.append(
                f"{name}: all videos have the same features, however they are shown: its scores say nothing"
            )
    return found


class _Asked:
    """Scores, filled one question after the other."""

    def __init__(self, shown: Shown, groups: Tensor, seed: int) -> None:
        self._shown, self._groups, self._seed = shown, groups, seed
        self.scores: dict[str, Any] = {}
        self.comparisons: dict[str, Any] = {}
        self.gaps: dict[str, dict[str, Any]] = {}
        self.right: dict[str, Tensor] = {}  # (N,) bool of each row that asks for classes
        self.fit: tuple[Shown, Tensor] | None = None  # other videos and their labels, in place of folds

    def pair(self, question: str, ways: tuple[str, str], control: tuple[str, str], of: Tensor) -> None:
        """Whether two ways in which the videos `of`, (N,) bool, are shown can be told apart."""
        groups = self._groups[of]
        if len(groups.unique()) < 2:
            return
        answers: dict[str, Tensor] = {}
        for encoder, rows in self._shown.features.items():
            ok = self._shown.ok[encoder][of]
            for name, (first, second) in ((question, ways), (f"{question}, {BAG}", control)):
                fit = None
                if self.fit is not None:
                    other = self.fit[0].features[encoder]
                    fit = versions(other[first], other[second], self.fit[0].ok[encoder])
                asked = versions(rows[first][of], rows[second][of], ok)
                right = telling_apart(asked, groups, self._seed, fit)
                self._add(answers, f"{encoder}, {name}", right, ok, groups)
        self.scores[f"chance, {question}"] = {"top1": 0.5}
        self._compare(answers, question, (BAG,), groups)

    def classes(self, labels: Tensor, count: int) -> None:
        """Which of `count` classes, with all of time and with less."""
        answers: dict[str, Tensor] = {}
        for encoder, rows in self._shown.features.items():
            ok = self._shown.ok[encoder]
            for way in (CLIP, *LESS):
                fit = None
                if self.fit is not None:
                    fit = Known(self.fit[0].features[encoder][way], self.fit[1], self.fit[0].ok[encoder])
                asked = Known(rows[way], labels, ok)
                right = naming_classes(asked, self._groups, count, self._seed, fit)
                name = f"{encoder}, {CLASSES}" + ("" if way == CLIP else f", {way}")
                self._add(answers, name, right, ok, self._groups)
                self.right[name] = right == 1
        self.scores[f"chance, {CLASSES}"] = {"top1": 1 / count}
        self._compare(answers, CLASSES, LESS, self._groups)

    def _add(self, answers: dict[str, Tensor], name: str, right: Tensor, ok: Tensor, groups: Tensor) -> None:
        answers[name] = right
        self.scores[name] = score_of(right, ok, groups, self._seed)

    def _compare(
        self, answers: dict[str, Tensor], question: str, less: tuple[str, ...], groups: Tensor
    ) -> None:
        """Trained with untrained, and each encoder with itself when it is shown less."""
        name, other = f"trained, {question}", f"untrained, {question}"
        if other in answers:
            self.comparisons[name] = gap(other, answers[name], answers[other], groups, self._seed)
        for encoder in self._shown.features:
            name = f"{encoder}, {question}"
            others = (f"{name}, {way}" for way in less)
            self.gaps[name] = {x: gap(x, answers[name], answers[x], groups, self._seed) for x in others}
