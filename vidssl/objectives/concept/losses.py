"""Cross-entropies between softmaxes over concepts: the two losses of self-distillation in a concept space.

    ℓ_a(x) = cos(z(x), rows of C_a),   a = names (category) or descriptions of the K concepts
    P_t = softmax((ℓ_t - b) / τ_t),   P_s = softmax(ℓ_s / τ_s),   H(p, q) = -sum_k p_k log q_k

After the description in Ranasinghe & Ryoo 2023, "Language-based Action Concept Spaces Improve Video Self-Supervised
Learning", arXiv 2307.10922; the form is DINO's (Caron et al. 2021, arXiv 2104.14294), the details are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import cast

import torch
from torch import Tensor

from vidssl.errors import VidsslError, check_value
from vidssl.objectives.base import cross_view_pairs, l2_normalise
from vidssl.objectives.precision import full_precision, widen

Views = Sequence[Tensor]


def concept_logits(z: Tensor, vectors: Tensor) -> Tensor:
    """Cosines of features with concepts.

    Args:
        z: (B, D), normalised here.
        vectors: (K, D) unit rows.

    Returns:
        (B, K) in [-1, 1], float32 or wider.

    Raises:
        VidsslError: if the widths differ.
    """
    if z.ndim != 2 or z.shape[1] != vectors.shape[1]:
        raise VidsslError(
            f"concept: features {tuple(z.shape)} do not live in the space of the concepts (D = {vectors.shape[1]})"
        )
    with full_precision(z):
        rows: Tensor = widen(z)
        return l2_normalise(rows) @ vectors.to(rows.dtype).T


def concept_probs(logits: Tensor, temperature: float, bias: Tensor | None = None) -> Tensor:
    """softmax((logits - bias) / temperature) over the last axis, in float32 or wider.

    Args:
        logits: (..., K) cosines.
        temperature: positive; the spread of cosines over concepts is only 0.02 to 0.03, so that 0.1 is flat.
        bias: (K,) what each concept has in common over all videos, in units of cosines.

    Raises:
        VidsslError: if the temperature is not positive.
    """
    check_temperature(temperature)
    with full_precision(logits):
        wide: Tensor = widen(logits)
        if bias is not None:
            wide = wide - bias.to(wide.dtype)
        return (wide / temperature).softmax(dim=-1)


def concept_distillation_loss(
    student_logits: Views,
    teacher_probs: Views,
    student_temperature: float,
    skip_same_view: bool = True,
    teacher_views: Sequence[int] | None = None,
) -> Tensor:
    """Mean of H(P_t(u), P_s(v)) over pairs of views u, v and over videos, in one concept space.

    Args:
        student_logits: per view (B, K) cosines; row i of each from video i.
        teacher_probs: per view of the teacher (B, K), rows that sum to 1; get no gradient.
        student_temperature: τ_s.
        skip_same_view: leave out pairs u = v, unless there are no others.
        teacher_views: index u of each of the teacher's views; the first views when None.

    Returns:
        Scalar, nats, at least the mean entropy of the targets; log K for equal logits.

    Raises:
        VidsslError: if shapes or indices do not fit, or the temperature is not positive.
    """
    check_temperature(student_temperature)
    students, teachers = len(student_logits), len(teacher_probs)
    shapes = sorted({tuple(x.shape) for x in [*student_logits, *teacher_probs]})
    if not student_logits or not teacher_probs or len(shapes) != 1 or len(shapes[0]) != 2:
        raise VidsslError(
            f"concept: {students} views of the student and {teachers} of the teacher of shapes "
            f"{', '.join(map(str, shapes))}: needs at least one of each, all (B, K) of one shape"
        )
    if teacher_views is not None and len(teacher_views) != teachers:
        raise VidsslError(f"concept: teacher_views {list(teacher_views)} for {teachers} views of the teacher")
    pairs = list(product(range(students), range(teachers)))
    if skip_same_view:
        pairs = cross_view_pairs(students, teachers, teacher_views)
    with full_precision(*student_logits):
        log_student = [(widen(logits) / student_temperature).log_softmax(dim=1) for logits in student_logits]
        targets = [widen(probs.detach()) for probs in teacher_probs]
        return torch.stack([-(targets[t] * log_student[s]).sum(dim=1).mean() for s, t in pairs]).mean()


def concept_alignment_loss(
    student_logits: Views | Sequence[Views],
    teacher_probs: Views | Sequence[Views],
    student_temperature: float,
    sigma: float = 1.0,
    skip_same_view: bool = False,
    teacher_views: Sequence[int] | None = None,
) -> Tensor:
    """[H(P_t^c(u), P_s^d(v)) + sigma H(P_t^d(u), P_s^c(v))] / (1 + sigma), mean over all pairs of views u, v.

    What a video is called has to predict how it is described, and the other way round. Views u = v count, since the two
    spaces see the same features differently.

    Args:
        student_logits: (category, description), each a list over views of (B, K) cosines with row-aligned concepts.
            Or, for the first direction alone, the list of the description space.
        teacher_probs: (category, description), each a list over the teacher's views; or the list of the category space.
        student_temperature: τ_s.
        sigma: weight of the second direction, in [0, 1].
        skip_same_view, teacher_views: as in `concept_distillation_loss`.

    Returns:
        Scalar, nats.

    Raises:
        VidsslError: as `concept_distillation_loss`, or for a sigma outside.
    """
    check_value("sigma", sigma, 0 <= sigma <= 1, "in [0, 1]")
    options = student_temperature, skip_same_view, teacher_views
    flat = [len(x) > 0 and isinstance(x[0], Tensor) for x in (student_logits, teacher_probs)]
    if all(flat):
        return concept_distillation_loss(cast(Views, student_logits), cast(Views, teacher_probs), *options)
    if any(flat) or len(student_logits) != 2 or len(teacher_probs) != 2:
        raise VidsslError(
            "concept alignment: needs (category, description) of the student and of the teacher"
        )
    student_c, student_d = cast(Sequence[Views], student_logits)
    teacher_c, teacher_d = cast(Sequence[Views], teacher_probs)
    forth = concept_distillation_loss(student_d, teacher_c, *options)
    back = concept_distillation_loss(student_c, teacher_d, *options)
    return (forth + sigma * back) / (1 + sigma)


def anchor_cosine(own: Views, anchors: Views, teacher_views: Sequence[int] | None = None) -> Tensor:
    """Mean cosine of the student's features with fixed features of the same views; 1 minus it is the anchor loss.

    Args:
        own: per view (B, D).
        anchors: (B, D) for each view, or for each view of the teacher in its order; get no gradient.
        teacher_views: index of each of the teacher's views; the first views when None.

    Returns:
        Scalar in [-1, 1].

    Raises:
        VidsslError: if number or shapes do not fit.
    """
    partial = len(anchors) < len(own) and teacher_views is not None
    views = list(teacher_views or ()) if partial else list(range(len(own)))[: len(anchors)]
    if len(views) != len(anchors) or any(
        a.shape != own[v].shape for a, v in zip(anchors, views, strict=True)
    ):
        shapes = ", ".join(str(tuple(x.shape)) for x in anchors)
        raise VidsslError(f"concept: anchors of shapes {shapes} for {len(own)} views {tuple(own[0].shape)}")
    with full_precision(*own):
        pairs = [(widen(own[v]), widen(a.detach())) for a, v in zip(anchors, views, strict=True)]
        return torch.stack([(l2_normalise(x) * l2_normalise(a)).sum(dim=1).mean() for x, a in pairs]).mean()


def check_temperature(temperature: float) -> None:
    """
    Raises:
        VidsslError: if it is not positive.
    """
    if not temperature > 0:
        raise VidsslError(f"concept: temperature {temperature}: must be positive")
