"""How alike two observations are whose parts correspond only loosely: each is rebuilt from the parts of the other.

RSM, the reconstruction similarity metric of UniTrack (Wang et al. 2021, arXiv 2107.02156, section 3.3). An observation is a
set of features: the cells of a box, or those under a mask.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import einsum, rearrange, reduce
from torch import Tensor
from torch.nn import functional

from vidssl.errors import VidsslError

# Of the rebuilt features' norm; smaller ones are not scaled up (`torch.nn.functional.normalize`, in the reference).
FLOOR = 1e-12


def reconstruction_cost(
    tracks: Sequence[Tensor],
    detections: Sequence[Tensor],
    temperature: float = 100.0,
    floor: float = 0.0,
) -> Tensor:
    """1 - (cos(t', t) + cos(d', d)) / 2 of every track t and detection d, t' being t rebuilt from d and d' from t.

    Columns are l2-normalised. Every column of a track attends to the columns of all detections together, by a softmax of
    `temperature` times their inner products, and t' is what it takes from those of d: much where d is the best match among
    all, little otherwise. Sets of unequal size are filled up with zero columns on either side, which take part in the softmax
    with logit 0.

    The cost of (a, b) is the transpose of that of (b, a). It depends on everything that stands on either side.

    Args:
        tracks: n features (D, P_i).
        detections: m features (D, Q_j).
        temperature: factor (an inverse temperature) of the inner products.
        floor: norms of rebuilt features below this one count as it, so that what is hardly attended to at all is like nothing;
            with 0 the cosines are those of the formula, however little was taken. The reference has `FLOOR`, which matters for
            features of few columns.

    Returns:
        (n, m) in [0, 2]; 1 where a side has only zero columns, or none.

    Raises:
        VidsslError: features that are not finite, or of several widths.
    """
    if not len(tracks) or not len(detections):
        some = next(iter([*tracks, *detections]), torch.empty(0))
        return some.new_zeros(len(tracks), len(detections), dtype=some.dtype)
    if len({x.shape[0] for x in (*tracks, *detections)}) > 1:
        raise VidsslError(
            f"features of widths {sorted({x.shape[0] for x in (*tracks, *detections)})}: must be one"
        )
    t, d = _padded("track", tracks), _padded("detection", detections)
    if not t.numel() or not d.numel():
        return t.new_ones(len(tracks), len(detections))
    inner = einsum(t, d, "n c p, m c q -> n p m q")
    forward = _likeness(inner, d, t, temperature, floor)
    backward = _likeness(rearrange(inner, "n p m q -> m q n p"), t, d, temperature, floor)
    return 1 - (forward + backward.T) / 2


def _padded(what: str, sets: Sequence[Tensor]) -> Tensor:
    """(n, D, P) of unit columns, and zero ones behind them."""
    for index, columns in enumerate(sets):
        if not bool(columns.isfinite().all()):
            raise VidsslError(f"{what} {index}: its features are not finite")
    longest = max(x.shape[1] for x in sets)
    unit = [x / torch.where(x.norm(dim=0) > 0, x.norm(dim=0), 1) for x in sets]
    return torch.stack([functional.pad(x, (0, longest - x.shape[1])) for x in unit])


def _likeness(inner: Tensor, sources: Tensor, targets: Tensor, temperature: float, floor: float) -> Tensor:
    """Cosine of each target (n, D, P) with itself rebuilt from each source (m, D, Q): (n, m); inner (n, P, m, Q)."""
    logits = temperature * inner
    logits = logits - rearrange(torch.logsumexp(logits, dim=(2, 3)), "n p -> n p 1 1")
    # The cosine is that of any multiple of the rebuilt target: the largest weight of a pair is made 1, lest small ones vanish.
    largest = reduce(logits, "n p m q -> n 1 m 1", "max")
    weights = torch.exp(logits - largest)
    # With t' = S w for the source's columns S: t't = w'(S't), and |t'|^2 = w'(S'S)w, without ever forming t'.
    product = reduce(weights * inner, "n p m q -> n m", "sum")
    gram = einsum(sources, sources, "m c q, m c r -> m q r")
    power = reduce(einsum(weights, gram, "n p m q, m q r -> n p m r") * weights, "n p m r -> n m", "sum")
    rebuilt = power.clamp(min=0).sqrt()
    if floor:
        rebuilt = rebuilt.maximum(floor * torch.exp(-rearrange(largest, "n 1 m 1 -> n m")))
    norm = rebuilt * targets.flatten(1).norm(dim=1)[:, None]
    return torch.where(norm > 0, product / torch.where(norm > 0, norm, 1), 0).clamp(-1, 1)
