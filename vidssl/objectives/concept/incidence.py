"""Alignment of an action's distribution with that of its attributes, through the matrix of which action has which.

An action k is drawn from p, and one of its attributes at random: with A (K, M) the incidence and W_km = A_km / sum_m A_km,
p says of attributes

    (p W)_m / c,    c = sum of p_k over the actions that have any attribute of this kind.

The space of attributes says q_m of the same video. The loss is the cross-entropy of one with the other, both ways:

    forth = c_t H(p_t W / c_t, q_s)        actions teach attributes; a video of an action without any teaches nothing
    back  = H(q_t, p_s W / c_s)            attributes teach actions: the likelihood of a mixture whose parts are actions

Cross-entropy is a proper score, so that both are least exactly where p W / c = q, whatever the temperatures. With W = 1 they
are the two directions of `concept_alignment_loss`. The backward direction does not say which of the actions that share an
attribute is meant: its gradient on the action's cosines is (p_k 1[k has any] / c - sum_m q_m r_km) / τ with r_km = p_k W_km /
(p W)_m the posterior of the action, so that it sharpens what the video already prefers. (Teaching p with q V, V the
incidence normalised by columns, would instead be least at a mixture of all actions that share the attributes.)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.objectives.concept.losses import check_temperature, concept_distillation_loss
from vidssl.objectives.precision import full_precision, widen

Views = Sequence[Tensor]


def attribute_shares(incidence: Tensor) -> Tensor:
    """W: (K, M) float32 rows that sum to 1, or 0 where an action has no attribute.

    Args:
        incidence: (K, M), above 0 where action k has attribute m.
    """
    shares = incidence.float()
    return shares / shares.sum(dim=1, keepdim=True).clamp_min(1)


def attribute_probs(probs: Tensor, shares: Tensor) -> Tensor:
    """p W: (..., M) of (..., K); rows sum to c, the probability of actions that have an attribute."""
    with full_precision(probs):
        wide: Tensor = widen(probs)
        return wide @ shares.to(wide.dtype)


def attribute_log_probs(logits: Tensor, temperature: float, shares: Tensor) -> Tensor:
    """log(p W / c) of p = softmax(logits / temperature): (..., M) of (..., K), rows of log-probabilities.

    Relative to the likeliest action with an attribute, so that only attributes some 87 nats below it underflow (float32);
    those count as that and get no gradient.
    """
    check_temperature(temperature)
    with full_precision(logits):
        scaled: Tensor = widen(logits) / temperature
        weights = shares.to(scaled.dtype)
        scaled = scaled.masked_fill(weights.sum(dim=1) == 0, -torch.inf)
        mixed = scaled.softmax(dim=-1) @ weights
        return mixed.clamp_min(torch.finfo(mixed.dtype).tiny).log()


def attribute_alignment_losses(
    action_logits: Views,
    action_probs: Views,
    attribute_logits: Views,
    attribute_targets: Views,
    shares: Tensor,
    action_temperature: float,
    attribute_temperature: float,
) -> tuple[Tensor, Tensor]:
    """(forth, back) of this page, each the mean over all pairs of views and over videos.

    Args:
        action_logits, attribute_logits: the student's, per view (B, K) and (B, M) cosines; row i of each from video i.
        action_probs, attribute_targets: the teacher's, per view (B, K) and (B, M), rows that sum to 1; get no gradient.
        shares: (K, M), see `attribute_shares`.
        action_temperature, attribute_temperature: τ_s of the two spaces.

    Returns:
        Two scalars, nats.

    Raises:
        VidsslError: if shapes do not fit or a temperature is not positive.
    """
    actions, attributes = shares.shape
    shapes = {tuple(x.shape[1:]) for x in (*action_logits, *action_probs)}
    others = {tuple(x.shape[1:]) for x in (*attribute_logits, *attribute_targets)}
    if shapes != {(actions,)} or others != {(attributes,)}:
        raise VidsslError(
            f"concept: views of widths {sorted(shapes)} and {sorted(others)} for an incidence {tuple(shares.shape)}"
        )
    taught = [attribute_probs(view.detach(), shares) for view in action_probs]
    forth = concept_distillation_loss(attribute_logits, taught, attribute_temperature, skip_same_view=False)
    with full_precision(*action_logits):
        said = [attribute_log_probs(view, action_temperature, shares) for view in action_logits]
        targets = [widen(view.detach()) for view in attribute_targets]
        pairs = product(said, targets)
        back = torch.stack([-(target * log).sum(dim=1).mean() for log, target in pairs]).mean()
    return forth, back
