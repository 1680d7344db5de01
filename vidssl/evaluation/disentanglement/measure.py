"""All numbers of one set of codes: MED of static and of motion factors apart with its nats, signs, and the other scores."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidssl.errors import VidsslError
from vidssl.evaluation.disentanglement.batches import Pool, beta_vae, factor_vae
from vidssl.evaluation.disentanglement.information import (
    Floats,
    Information,
    Ints,
    checked_codes,
    measure_information,
)
from vidssl.evaluation.disentanglement.metrics import irs, med_of, mig_of, modularity_of
from vidssl.evaluation.disentanglement.probes import dci, explicitness, sap
from vidssl.evaluation.disentanglement.signs import Sign

GROUPS = ("all", "static", "motion")
SLOW_CLIPS = 1000  # to fit on, and as many to test on, for SAP and DCI
BATCHES = 10_000, 5_000, 64  # points to fit on, to test on, and clips of each


@dataclass(frozen=True)
class Question:
    """What is asked of every set of codes.

    Attributes:
        factors: (N, K), none of them constant. names: of them. motion: which of them are of motion.
        signs: asked for beside them. bins: of every code.
    """

    factors: Ints
    names: tuple[str, ...]
    motion: NDArray[np.bool_]
    signs: tuple[Sign, ...]
    bins: int

    def group(self, name: str) -> NDArray[np.bool_]:
        """Which factors are of a group of `GROUPS`."""
        return {"all": np.ones_like(self.motion), "static": ~self.motion, "motion": self.motion}[name]

    def permuted(self, seed: int = 0) -> Question:
        """The same with the clips' labels in random order, those of a clip together: what is left is the floor."""
        order = np.random.default_rng(seed).permutation(len(self.factors))
        return Question(self.factors[order], self.names, self.motion, self.signs, self.bins)


def measure(codes: Floats | NDArray[np.float32], question: Question) -> dict[str, Any]:
    """What single codes say of the factors.

    Args:
        codes: (N, d).

    Returns:
        ``groups``: for all, static and motion factors (those with two or more) MED, top-1 MED, MED after Miller-Madow,
        completeness, ``nats`` (mean over the factors of what the best code says) and ``share`` (the same of the factor's
        entropy); ``factors``: for each, nats, best dimension and entropy; ``signs``: nats, best dimension and number of clips.
    """
    x = checked_codes(codes)
    plain = measure_information(x, question.factors, question.bins)
    corrected = measure_information(x, question.factors, question.bins, bias="miller_madow").nats
    best, dimension = plain.nats.max(axis=0), plain.nats.argmax(axis=0)
    groups = {}
    for name in GROUPS:
        of = question.group(name)
        if of.sum() < 2:
            continue
        found = med_of(plain.nats[:, of])
        groups[name] = {
            "med": found["score"],
            "med_top_1": med_of(plain.nats[:, of], top_k=1)["score"],
            "med_miller_madow": med_of(corrected[:, of])["score"],
            "completeness": _or_none(found["completeness"]),
            "nats": float(best[of].mean()),
            "share": float((best[of] / plain.entropy[of]).mean()),
        }
    factors = {
        name: {"nats": float(best[k]), "dimension": int(dimension[k]), "entropy": float(plain.entropy[k])}
        for k, name in enumerate(question.names)
    }
    return {"groups": groups, "factors": factors, "signs": _signs(x, question)}


def information_of(codes: NDArray[Any], question: Question) -> Information:
    """The matrix behind `measure`."""
    return measure_information(checked_codes(codes), question.factors, question.bins)


def _signs(codes: NDArray[Any], question: Question) -> dict[str, Any]:
    found = {}
    for sign in question.signs:
        labels = sign.labels(question.factors[:, question.names.index(sign.factor)])
        rows = labels >= 0
        if len(np.unique(labels[rows])) < 2:
            continue
        nats = measure_information(codes[rows], labels[rows, None], question.bins).nats[:, 0]
        found[sign.name] = {
            "nats": float(nats.max()),
            "dimension": int(nats.argmax()),
            "clips": int(rows.sum()),
        }
    return found


def other_scores(
    codes: NDArray[Any], question: Question, *, slow: bool, seed: int = 0
) -> tuple[dict[str, float | None], list[str]]:
    """The scores that MED is compared with, of all factors, and sentences on those that could not be had.

    Probes are fitted on the first half of the clips and tested on the second. Codes are standardised for those scores
    that depend on scales: β-VAE's, FactorVAE's, SAP and DCI.

    Args:
        slow: SAP and DCI too, on `SLOW_CLIPS` clips to fit on and as many to test on, at most.
        seed: of the batches.
    """
    y, bins = question.factors, question.bins
    x = checked_codes(codes).astype(np.float64)
    spread = x.std(axis=0)
    unit = (x - x.mean(axis=0)) / np.where(spread > 0, spread, 1)
    half = len(x) // 2
    few = min(half, SLOW_CLIPS)
    information = measure_information(x, y, bins)
    parts = x[:half], y[:half], x[half:], y[half:]
    small = unit[:few], y[:few], unit[half : half + few], y[half : half + few]

    def pools() -> tuple[Pool, Pool]:
        """No clip is both fitted and tested on: small pools would be known by heart."""
        rng = np.random.default_rng(seed)
        return Pool(unit[:half], y[:half], rng), Pool(unit[half:], y[half:], rng)

    scores: dict[str, Callable[[], float | dict[str, float]]] = {
        "mig": lambda: mig_of(information),
        "modularity": lambda: modularity_of(information.nats),
        "irs": lambda: irs(x, y, bins),
        "explicitness": lambda: explicitness(*parts),
        "beta_vae": lambda: beta_vae(*pools(), *BATCHES),
        "factor_vae": lambda: factor_vae(*pools(), *BATCHES),
    }
    if slow:
        scores |= {"sap": lambda: sap(*small), "dci": lambda: dci(*small)}
    found: dict[str, float | None] = {}
    notes: list[str] = []
    for name, score in scores.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # constant factors of a half, iterations of a solver
                value = score()
        except VidsslError as error:
            found[name] = None
            notes.append(f"{name} is left out: {error}")
            continue
        if isinstance(value, dict):
            found |= {f"{name}_{key}": _or_none(part) for key, part in value.items()}
        else:
            found[name] = _or_none(value)
    return found, notes


def _or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
