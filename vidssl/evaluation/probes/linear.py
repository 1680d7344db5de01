"""The linear probe: multinomial logistic regression on frozen features, fitted to its optimum.

Deterministic and free of learning rates: the objective is convex and minimised by L-BFGS in float64. The strength of
the l2 penalty is chosen on held-out parts of the training split, never on the test split. Videos that are recorded as
one group, of one person for instance, are held out together: apart, they favour the penalty that knows persons by heart.
"""

from __future__ import annotations

from pathlib import Path

import torch

from vidssl import distributed
from vidssl.evaluation.probes.logistic import L2_GRID, probe
from vidssl.evaluation.probes.splits import Splits, read_splits
from vidssl.evaluation.report import Result, result_header
from vidssl.evaluation.setup import EvalOptions, load_subject


def linear_probe(
    checkpoint: str | Path,
    train: str | Path,
    val: str | Path,
    *,
    seed: int = 0,
    options: EvalOptions | None = None,
) -> Result:
    """Logistic regression on frozen clip features, its penalty chosen on a held-out part of `train`.

    Fitted by the first process, on its GPU if there is one.

    Returns:
        JSON-able result; ``scores`` holds the trained encoder, the untrained one, motion energy, majority and chance.
    """
    subject = load_subject(checkpoint, options)
    splits = read_splits(subject, train, val)
    header = result_header("linear-probe", subject)  # on all processes: it counts them
    fitted = distributed.on_first(lambda: _fitted(splits, subject.device, seed))
    return {
        **header,
        "seed": seed,
        **splits.record,
        **fitted,
        "notes": splits.record["notes"] + fitted["notes"],
    }


def _fitted(splits: Splits, device: torch.device, seed: int) -> Result:
    """Penalties, scores and what has to be said of them."""
    place = device if device.type == "cuda" else torch.device("cpu")  # others may know no float64
    l2, predictions = {}, {}
    for frozen in splits.frozen():
        train, test = frozen.train.to(place), frozen.test.to(place)
        logits, l2[frozen.title] = probe(
            train, frozen.labels, test, len(splits.names), groups=frozen.groups, seed=seed
        )
        predictions[frozen.title] = (frozen, logits.cpu())
    grouped = splits.record["train"].get("groups", 0)
    return {
        "feature": "clip (mean over frames and clips, in the encoder's output space)",
        "l2": l2,
        "l2_grid": L2_GRID,
        **({"groups_kept_together": grouped} if grouped else {}),
        "notes": [f"recorded groups kept together in choosing the penalties: {grouped}"] * bool(grouped)
        + [
            f"{title}: the penalty, {penalty:g}, lies at the edge of the grid, {min(L2_GRID):g} to {max(L2_GRID):g}; a "
            "better one may lie outside"
            for title, penalty in l2.items()
            if penalty in (min(L2_GRID), max(L2_GRID))
        ],
        **splits.scored(predictions),
    }
