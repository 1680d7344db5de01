"""Whether a result agrees with itself: a file that was edited, or written by something else, often does not.

The hash of its protocol is over what the protocol says, the protocol says what the result says, and its scores follow from its answers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from vidssl.evaluation.results.protocol import hash_of

NEAR = 1e-9  # of accuracies that are the same


def contradiction(result: Mapping[str, Any]) -> str | None:
    """In what a result of known form says two things of one, the first such; None where it does nowhere."""
    return next(_contradictions(result), None)


def _contradictions(result: Mapping[str, Any], where: str = "") -> Iterator[str]:
    protocol = result.get("protocol")
    if isinstance(protocol, Mapping):
        if protocol.get("hash") != (own := hash_of(protocol)):
            yield f"{where}protocol.hash: {protocol.get('hash')} is not the hash of the protocol, {own}"
        for name, said in protocol.items():
            found: Any = result
            for key in name.split("."):
                found = found.get(key) if isinstance(found, Mapping) else None
            if found is not None and name != "hash" and json.dumps(found) != json.dumps(said):
                yield f"{where}{name}: {_short(found)}, but {_short(said)} in its protocol"
    scores = result.get("scores")
    for row, score in scores.items() if isinstance(scores, Mapping) else ():
        if isinstance(score, Mapping):
            yield from _of_score(result, row, score, f"{where}scores.{row}.")
    for number, split in enumerate(result.get("splits") or (), 1):
        yield from _contradictions(split, f"{where}split {number}: ")


def _of_score(result: Mapping[str, Any], row: str, score: Mapping[str, Any], where: str) -> Iterator[str]:
    """Of a row of the table: that its accuracy follows from its counts, its answers, and its splits."""
    key = "R@1" if "R@1" in score else "top1"
    value = score.get(key)
    if value is None:
        return
    if not 0 <= value <= 1:
        yield f"{where}{key}: {value} is no accuracy"
    if score.get("correct") is not None and score.get("total"):
        yield from _unlike(f"{where}{key}", value, score["correct"] / score["total"], "its counts")
    if (right := right_answers(result, row)) is not None and right:
        yield from _unlike(f"{where}{key}", value, sum(right) / len(right), "its answers")
    if "splits" in result and score.get("top1_splits"):
        each = [split["scores"][row]["top1"] for split in result["splits"]]
        if len(each) != len(score["top1_splits"]):
            yield f"{where}top1_splits: {len(score['top1_splits'])} numbers of {len(each)} splits"
        yield from _unlike(f"{where}top1", value, sum(each) / len(each), "its splits")


def right_answers(result: Mapping[str, Any], row: str) -> list[bool] | None:
    """Which videos a row of the table got right, in the order of `answers`; None where a result does not say.

    Raises:
        ValueError: for another number of answers than videos.
    """
    answers = result.get("answers") or {}
    if row in (answers.get("right") or {}):
        right = list(answers["right"][row])
    elif row in (answers.get("answered") or {}):
        right = [a == b for a, b in zip(answers["answered"][row], answers["truth"], strict=True)]
    else:
        return None
    if len(right) != len(answers["videos"]):
        raise ValueError(f"answers: {len(right)} of {len(answers['videos'])} videos in {row}")
    return right


def _unlike(name: str, value: float, other: float, source: str) -> Iterator[str]:
    if not math.isclose(value, other, abs_tol=NEAR):
        yield f"{name}: {value:.6g}, but {other:.6g} by {source}"


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
