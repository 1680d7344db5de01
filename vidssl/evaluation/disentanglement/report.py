"""`vidssl disentangle`: from an encoder to what its single dimensions hold of the factors of rendered videos, with controls.

>>> result = disentangle("runs/first", RenderedClips("sprites", 10_000, 16, seed=0), options=options)
>>> write_report(result, "report")
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidssl.errors import VidsslError, check_value, counted
from vidssl.evaluation.disentanglement.clips import Clips
from vidssl.evaluation.disentanglement.encode import ENCODER, UNTRAINED, Encoded, encode_clips, rotated
from vidssl.evaluation.disentanglement.information import BINS, Floats
from vidssl.evaluation.disentanglement.measure import (
    SLOW_CLIPS,
    Question,
    information_of,
    measure,
    other_scores,
)
from vidssl.evaluation.disentanglement.plots import plot_disentanglement
from vidssl.evaluation.disentanglement.probes import check_sklearn
from vidssl.evaluation.disentanglement.signs import signs_of
from vidssl.evaluation.report import Result, result_header
from vidssl.evaluation.results.protocol import sealed
from vidssl.evaluation.setup import EvalOptions, load_subject
from vidssl.files import write_json

FRAMES, CLIPS = 16, 10_000
JSON = "disentangle.json"
PERMUTED, ROTATED, IDEAL = "labels permuted", "axes rotated", "ideal code"


def disentangle(
    checkpoint: str | Path,
    clips: Clips,
    *,
    bins: int = BINS,
    slow: bool = False,
    seed: int = 0,
    options: EvalOptions | None = None,
) -> Result:
    """Ask every dimension of an encoder's clip features for every factor of clips.

    Args:
        checkpoint: whatever names an encoder, see `load_encoder`; of a run also the encoder it started from.
        clips: with their factors.
        bins: of every dimension.
        slow: SAP and DCI too.
        seed: of the controls' draws.
        options: `frames` (default 16, all of a rendered clip), `size`, `batch_size`, `workers`, `backend` and `device` count.

    Returns:
        JSON-able result; see docs/disentanglement.md. ``rows`` has the encoder, its untrained twin and the encoder shown less;
        ``would_say_if`` what would be said of permuted labels, of rotated axes, and of an ideal code of as many dimensions: a
        factor each, noise in the others.

    Raises:
        VidsslError: for an encoder that does not take such clips, fewer clips than bins, fewer than two factors that vary, or
            `slow` without scikit-learn.
    """
    check_value("bins", bins, bins >= 2, "at least 2")
    if slow:
        check_sklearn()
    options = options or EvalOptions()
    options = replace(
        options, frames=options.frames or FRAMES, stride=1, seconds=None, clips=1, resize="squash"
    )
    subject = load_subject(checkpoint, options)
    table, notes = clips.table, list[str]()
    _question(clips, np.arange(len(table.values)), bins, [])  # so that nothing is encoded in vain
    encoded = encode_clips(subject, clips, seed)
    question = _question(clips, encoded.rows, bins, notes)
    trained = encoded.codes[ENCODER]
    others = {}
    for name in (ENCODER, UNTRAINED):
        if name in encoded.codes:
            others[name], said = other_scores(encoded.codes[name], question, slow=slow, seed=seed)
            notes += [note for note in said if note not in notes]
    if subject.untrained is None:
        notes.append("no untrained encoder beside it: only of runs the weights they started from are kept")
    notes += _constant(encoded)
    information = information_of(trained, question)
    record = {
        **result_header("disentangle", subject),
        "data": clips.record(encoded.failures),
        "clips": len(encoded.rows),
        "dimensions": trained.shape[1],
        "bins": bins,
        "seed": seed,
        "factors": {
            name: {"values": table.sizes[name], "kind": "motion" if name in table.motion else "static"}
            for name in table.names
        },
        "rows": {name: measure(codes, question) for name, codes in encoded.codes.items()},
        "would_say_if": _controls(trained, question, seed),
        "other_scores": others,
        "slow_clips": min(len(trained) // 2, SLOW_CLIPS) if slow else None,
        "information": {"factors": list(question.names), "nats": information.nats.tolist()},
        "notes": notes,
    }
    return sealed(record)


def _question(clips: Clips, rows: NDArray[np.int64], bins: int, notes: list[str]) -> Question:
    """The factors that vary among these clips; what is left out is added to `notes`."""
    table = clips.table
    values = table.values[rows]
    if len(values) < bins:
        raise VidsslError(
            f"{clips.name}: {counted(len(values), 'clip')} for {counted(bins, 'bin')}: take more clips, or fewer bins"
        )
    varies = (values != values[:1]).any(axis=0)
    if varies.sum() < 2:
        raise VidsslError(
            f"{clips.name}: of the factors {', '.join(table.names)} {int(varies.sum())} vary: two are needed, for a dimension "
            "that says one factor alone needs others that it could say"
        )
    constant = [name for name, kept in zip(table.names, varies, strict=True) if not kept]
    if constant:
        notes.append(f"constant factors, left out: {', '.join(constant)}")
    names = tuple(name for name, kept in zip(table.names, varies, strict=True) if kept)
    motion = np.array([name in table.motion for name in names])
    signs = signs_of(names, [table.sizes[name] for name in names], motion.tolist())
    return Question(values[:, varies], names, motion, tuple(signs), bins)


def _controls(codes: NDArray[np.float32], question: Question, seed: int) -> dict[str, Any]:
    """What would be said of codes that know nothing, of these codes spread over all axes, and of ideal ones."""
    found = {
        PERMUTED: measure(codes, question.permuted(seed)),
        ROTATED: measure(rotated(codes, seed), question),
    }
    d, k = codes.shape[1], len(question.names)
    if d >= k:
        ideal: Floats = np.random.default_rng(seed).normal(size=(len(codes), d))
        ideal[:, :k] = question.factors
        found[IDEAL] = measure(ideal, question)
    return found


def _constant(encoded: Encoded) -> list[str]:
    """Sentences on dimensions that never change."""
    said = []
    for name, codes in encoded.codes.items():
        count = int((codes == codes[:1]).all(axis=0).sum())
        if count:
            said.append(f"{name}: {count} of {codes.shape[1]} dimensions are constant and say nothing")
    return said


def write_report(result: Result, folder: str | Path, *, plots: bool = True) -> list[str]:
    """Write the JSON and the figures into `folder`; the names of the files.

    Raises:
        VidsslError: for `plots` without matplotlib.
    """
    folder = Path(folder)
    figures = [file.name for file in plot_disentanglement(result, folder)] if plots else []
    write_json(folder / JSON, {**result, "figures": figures})
    return [JSON, *figures]
