"""The linear probe: a linear classifier on frozen features, at its optimum or by gradient descent, on all labels or few.

By L-BFGS it is deterministic and free of learning rates: the objective is convex. The strength of the l2 penalty, or rate and
decay of gradient descent, are chosen on held-out parts of the training split, never on the test split. Videos that are recorded as
one group, of one person for instance, are held out together: apart, they favour the penalty that knows persons by heart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidssl import distributed
from vidssl.errors import check_choice, check_value
from vidssl.evaluation.metrics import chance_scores, correct_rows, majority_scores
from vidssl.evaluation.official import over_splits
from vidssl.evaluation.probes.few import chosen_rows, few_shot_notes, few_shot_score
from vidssl.evaluation.probes.holdout import can_hold_out
from vidssl.evaluation.probes.logistic import L2_GRID, probe
from vidssl.evaluation.probes.selection import SELECT, Setting, edge_note, selection_notes
from vidssl.evaluation.probes.sgd import DECAYS, RATES, probe_sgd
from vidssl.evaluation.probes.splits import Frozen, Splits, read_splits
from vidssl.evaluation.report import Result, result_header
from vidssl.evaluation.setup import EvalOptions, load_subject

HEADS = ("lbfgs", "sgd")
ALONE: dict[str, Any] = {
    "lbfgs": 0.1,
    "sgd": Setting(0.01, 0.0),
}  # penalty and setting where nothing can be held out


@dataclass(frozen=True)
class LinearOptions:
    """How a linear probe is fitted.

    Args:
        head: "lbfgs", the optimum of logistic regression for a penalty of `L2_GRID`, or "sgd", a grid of `RATES` and `DECAYS`.
        shots: numbers of training videos of each class, each drawn `draws` times; none: all videos.
        draws: of the videos of few shots.
        select: by what penalty, rate and decay are chosen: "train", held-out training videos, or "val", the test itself.
        seed: of the held-out videos, of the draws, and of gradient descent.
    """

    head: str = "lbfgs"
    shots: Sequence[int] = ()
    draws: int = 3
    select: str = "train"
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("head", self.head, HEADS)
        check_choice("select", self.select, SELECT)
        check_value("draws", self.draws, self.draws >= 1, "at least 1")
        for shots in self.shots:
            check_value("shots", shots, shots >= 1, "at least 1")


def linear_probe(
    checkpoint: str | Path,
    train: str | Path,
    val: str | Path,
    *,
    seed: int = 0,
    fit: LinearOptions | None = None,
    before: str | Path | None = None,
    options: EvalOptions | None = None,
) -> Result:
    """A linear classifier on frozen clip features, its penalty chosen on a held-out part of `train`.

    Fitted by the first process, on its GPU if there is one. Over three official splits where the data name them, see
    `over_splits`.

    Args:
        fit: how; by default to the optimum, on all labels, with `seed`.
        before: see `load_subject`.

    Returns:
        JSON-able result; ``scores`` holds the trained encoder, the untrained one, motion energy, majority and chance.
    """
    how = fit or LinearOptions(seed=seed)
    subject = load_subject(checkpoint, options, before)
    header = result_header("linear-probe", subject)  # on all processes: it counts them

    def measure(*data: str | Path) -> Result:
        splits = read_splits(subject, *data)
        fitted = distributed.on_first(lambda: _fitted(splits, subject.device, how))
        return {
            **header,
            "seed": how.seed,
            "head": how.head,
            "select": how.select,
            **splits.record,
            **fitted,
            "notes": splits.record["notes"] + fitted["notes"],
        }

    return over_splits(measure, train, val)


def _fitted(splits: Splits, device: torch.device, how: LinearOptions) -> Result:
    """Penalties, scores and what has to be said of them."""
    place = device if device.type == "cuda" else torch.device("cpu")  # others may know no float64
    frozen = list(splits.frozen())
    if how.shots:
        return _few_shots(splits, frozen, place, how)
    chosen, predictions = {}, {}
    for one in frozen:
        rows = torch.arange(len(one.labels))
        logits, chosen[one.title] = _solve(splits, one, rows, place, how)
        predictions[one.title] = (one, logits)
    grouped = splits.record["train"].get("groups", 0)
    return {
        "feature": "clip (mean over frames and clips, in the encoder's output space)",
        **_record(chosen, how),
        **({"groups_kept_together": grouped} if grouped else {}),
        "notes": [f"recorded groups kept together in choosing the penalties: {grouped}"] * bool(grouped)
        + [note for title, one in chosen.items() for note in _edges(title, one, how)]
        + splits.suspicions(predictions)
        + selection_notes(how.select),
        **splits.scored(predictions),
    }


def _solve(
    splits: Splits, one: Frozen, rows: Tensor, place: torch.device, how: LinearOptions
) -> tuple[Tensor, Any]:
    """Scores (M, K) of the test videos by a head fitted to some training rows, and the penalty or setting chosen.

    With one video of each class, of which none can be held out, these are `ALONE`.
    """
    train, labels, test = one.train[rows].to(place), one.labels[rows], one.test.to(place)
    groups = None if one.groups is None else one.groups[rows]
    held_out = None
    if how.select == "val":
        known = one.ok & (splits.test_labels < len(splits.names))
        held_out = (one.test[known].to(place), splits.test_labels[known].to(place))
    fit: Any = probe if how.head == "lbfgs" else probe_sgd
    alone = bool(how.shots) and held_out is None and not can_hold_out(labels, groups)
    grid = {"grid": (ALONE[how.head],)} if alone else {}
    logits, chosen = fit(
        train, labels, test, len(splits.names), groups=groups, seed=how.seed, held_out=held_out, **grid
    )
    return logits.cpu(), chosen


def _few_shots(splits: Splits, frozen: Sequence[Frozen], place: torch.device, how: LinearOptions) -> Result:
    """Scores of `shots` training videos of each class, the same draws for all encoders."""
    labels, scores, notes = splits.test_labels, {}, []
    for shots in dict.fromkeys(how.shots):
        for one in frozen:
            right, places = [], one.usable.cumsum(0) - 1  # of a training video among the rows that `one` has
            for draw in range(how.draws):
                seed = np.random.default_rng([how.seed, shots, draw])
                rows = places[chosen_rows(splits.train_labels, one.usable, shots, seed)]
                logits, _ = _solve(splits, one, rows, place, how)
                right.append(correct_rows(logits, labels, one.ok))
            scores[f"{one.title}, {shots} shots"] = few_shot_score(torch.stack(right))
            if one.title == "trained":
                notes += few_shot_notes(
                    torch.bincount(one.labels, minlength=len(splits.names)), splits.names, shots
                )
    scores["majority class"] = majority_scores(labels, splits.train_labels)
    scores["chance"] = chance_scores(labels, len(splits.names))
    return {
        "feature": "clip (mean over frames and clips, in the encoder's output space)",
        "shots": list(how.shots),
        "draws": how.draws,
        "notes": notes + selection_notes(how.select),
        "scores": scores,
        "comparisons": {},  # McNemar's test is of answers, and a mean over draws has none
    }


def _record(chosen: Mapping[str, Any], how: LinearOptions) -> Result:
    if how.head == "lbfgs":
        return {"l2": dict(chosen), "l2_grid": L2_GRID}
    settings = {title: one._asdict() for title, one in chosen.items()}
    return {"sgd": settings, "rate_grid": RATES, "decay_grid": DECAYS}


def _edges(title: str, chosen: Any, how: LinearOptions) -> list[str]:
    if how.head == "lbfgs":
        return edge_note(title, "penalty", chosen, L2_GRID)
    return edge_note(title, "rate", chosen.rate, RATES)
