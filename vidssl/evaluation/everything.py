"""Every protocol on a list of data sets, one table: what a finished encoder is worth in one command."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from vidssl.errors import VidsslError, check_choice
from vidssl.evaluation.probes.knn import knn
from vidssl.evaluation.probes.linear import linear_probe
from vidssl.evaluation.report import Result
from vidssl.evaluation.results.protocol import VERSION
from vidssl.evaluation.setup import EvalOptions
from vidssl.evaluation.zero_shot import zero_shot

PROTOCOLS: dict[str, Callable[..., Result]] = {
    "zero-shot": lambda checkpoint, train, val, options: zero_shot(checkpoint, val, options=options),
    "knn": lambda checkpoint, train, val, options: knn(checkpoint, train, val, options=options),
    "linear-probe": lambda checkpoint, train, val, options: linear_probe(
        checkpoint, train, val, options=options
    ),
}
VAL = ("val", "validation", "test")


class Outcome(NamedTuple):
    """What came of a protocol on a data set: a result, or the line that says why there is none."""

    data: Path
    protocol: str
    result: Result | None
    why_not: str = ""


def splits_of(folder: str | Path) -> tuple[Path, Path]:
    """The training and the test part of a data set: its folders ``train`` and ``val`` (or ``validation``, ``test``).

    Raises:
        VidsslError: when the folder or one of them is not there.
    """
    place = Path(folder)
    if not place.is_dir():
        raise VidsslError(f"{folder}: no such folder")
    tested = [place / name for name in VAL if (place / name).is_dir()]
    if not (place / "train").is_dir() or not tested:
        raise VidsslError(f"{folder}: expected folders train and val (or {', '.join(VAL[1:])}) in it")
    return place / "train", tested[0]


def evaluate_all(
    checkpoint: str | Path,
    sets: Sequence[str | Path],
    *,
    protocols: Sequence[str] = tuple(PROTOCOLS),
    options: EvalOptions | None = None,
) -> Iterator[Outcome]:
    """Run protocols on data sets, one after the other; features are computed once for each set.

    A protocol that cannot be run, such as zero-shot without a text tower, does not keep the others from it.

    Args:
        checkpoint: as in `zero_shot`.
        sets: folders with ``train`` and ``val`` in them.
        protocols: keys of `PROTOCOLS`.

    Raises:
        VidsslError: for an unknown protocol or a folder that is no data set, before anything is loaded.
    """
    for name in protocols:
        check_choice("protocol", name, PROTOCOLS, "{name} {value!r}: unknown{guess} (allowed: {allowed})")
    parts = [(Path(folder), *splits_of(folder)) for folder in sets]
    return _outcomes(checkpoint, parts, protocols, options)


def _outcomes(
    checkpoint: str | Path,
    parts: Sequence[tuple[Path, Path, Path]],
    protocols: Sequence[str],
    options: EvalOptions | None,
) -> Iterator[Outcome]:
    for folder, train, val in parts:
        for name in protocols:
            try:
                yield Outcome(folder, name, PROTOCOLS[name](checkpoint, train, val, options))
            except VidsslError as error:
                yield Outcome(folder, name, None, str(error))


def rows(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """A row for each score of a trained encoder: data, protocol and its hash, `trained`, `untrained`, `motion energy` and
    `chance` (scores, or None)."""
    found: list[dict[str, Any]] = []
    for outcome in outcomes:
        if outcome.result is None:
            continue
        scores: Mapping[str, Any] = outcome.result["scores"]
        for name, score in scores.items():
            if name == "trained" or name.startswith("trained,"):
                found.append(
                    {
                        "data": str(outcome.data),
                        "protocol": outcome.protocol + name.removeprefix("trained"),
                        "protocol_hash": outcome.result["protocol"]["hash"],
                        "trained": score,
                        "untrained": scores.get("un" + name),
                        "motion energy": scores.get("motion energy" + name.removeprefix("trained")),
                        "chance": scores.get("chance"),
                    }
                )
    return found


def record(checkpoint: str, outcomes: Sequence[Outcome]) -> Result:
    """What the report says: all rows, and why there are none of what could not be run."""
    return {
        "schema": f"evaluate-all/{VERSION}",
        "task": "evaluate-all",
        "checkpoint": checkpoint,
        "rows": rows(outcomes),
        "not_run": [
            {"data": str(one.data), "protocol": one.protocol, "why": one.why_not}
            for one in outcomes
            if one.result is None
        ],
    }
