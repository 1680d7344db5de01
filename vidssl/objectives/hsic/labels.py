"""Label kernels for HSIC(Z, Y): which rows of a batch show the same thing, and how strongly.

Let L be a kernel on labels with L_ii = 1, and H = I - 11'/n. Up to the factor sum(L) / n², which holds no features,

    HSIC(Z, Y) = tr(K H L H) / sum(L) = sum_ij L_ij K_ij / sum(L)  -  (2/n) sum_ij a_i K_ij  +  (1/n²) sum_ij K_ij

with the marginals a_i = sum_j L_ij / sum(L). The first term is a mean over positive pairs that counts a row as its own
positive, although K(z_i, z_i) = 1 whatever the features. Without those pairs, P = L - I, it becomes
sum_ij w_ij K_ij, w = P / sum(P), which is what is used here.

For B videos with k rows each and L_ij = [same video] the marginals are 1/n, and this is the estimator of SSL-HSIC
(Li et al. 2021, arXiv 2106.08320, eq. 5): mean of K over pairs of different views of a video, minus its mean over
all pairs. It holds for videos that occur more than once and for kernels that fall off with the time between views.

Pairs D of rows of one view of a clip (a prediction and its target, two frames of a view) can be left out: no positives,
and no negatives either. With L = 0 on D, q = 1 / (1 - sum_D b_ij) and b_ij = a_i / n + a_j / n - 1 / n²,

    HSIC(Z, Y) = sum_ij w_ij K_ij  -  q sum_(ij not in D) b_ij K_ij.

The weight of a pair in D is zero, those of all pairs sum to zero, and where a_i = 1/n this is the mean over positive pairs
minus the mean over all pairs that are not in D. (docs/objectives/hsic.md derives it from a label that is not known.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from vidssl.errors import VidsslError, check_choice

# k_t(u) for distances u >= 0 in units of the width; k_t(0) = 1.
TIME_KERNELS: dict[str, Callable[[Tensor], Tensor]] = {
    "gaussian": lambda u: torch.exp(-0.5 * u.square()),
    "laplace": lambda u: torch.exp(-u),
    "imq": lambda u: torch.rsqrt(1 + u.square()),
}


class LabelPairs(NamedTuple):
    """A label kernel as  sum_ij weight_ij K_ij - (2/n) sum_ij marginal_i K_ij + (share/n²) sum_ij K_ij.

    Attributes:
        first, second: (m,) int64 row numbers of ordered pairs of different rows: the positives, then those left out.
        weight: (m,) of the p positives w, which sum to 1; of the others q b_ij, which takes them out of the other terms.
        marginal: (n,) q a_i; a is the row sums of L, which count L_ii = 1, and sums to 1.
        share: q; 1 when nothing is left out.
        positives: p.
        same_view: (p,) bool, which positives are rows of one view of a clip; None when there are none.
    """

    first: Tensor
    second: Tensor
    weight: Tensor
    marginal: Tensor
    share: float | Tensor
    positives: int
    same_view: Tensor | None


def label_pairs(
    video_id: Tensor,
    rows_per_video: int,
    times: Tensor | None = None,
    width: float | None = None,
    kernel: str = "gaussian",
    *,
    views: Sequence[int] | None = None,
    same_view_pairs: bool = True,
    dtype: torch.dtype,
) -> LabelPairs:
    """Pairs for the kernel L = [v = v'] · k_t(|t - t'| / width).

    Args:
        video_id: (B,) equal for rows of one video.
        rows_per_video: R; row r·B + i of the stacked rows belongs to video_id[i].
        times: (R, B) seconds, centre of what the row shows; needed with `width`.
        width: seconds over which two moments of a video stop being alike; None or inf ignores time, which is plain
            SSL-HSIC because k_t(0) = 1.
        kernel: k_t(u): "gaussian" exp(-u²/2), "laplace" exp(-u), "imq" 1/sqrt(1 + u²).
        views: R numbers, the view that rows r·B … r·B + B - 1 show; all different when None.
        same_view_pairs: whether rows r·B + i and r'·B + i of one view are positives; else they are left out.
        dtype: of the weights.

    Raises:
        VidsslError: if there is no pair at all, `times` are missing, or `kernel` or `width` is unknown.
    """
    videos, device = len(video_id), video_id.device
    a, b = torch.nonzero(video_id[:, None] == video_id[None, :], as_tuple=True)
    numbers = torch.arange(rows_per_video, device=device)
    first_row, second_row = numbers.repeat_interleave(rows_per_video), numbers.repeat(rows_per_video)
    first = rearrange(first_row[:, None] * videos + a, "q m -> (q m)")
    second = rearrange(second_row[:, None] * videos + b, "q m -> (q m)")
    view = numbers if views is None else torch.as_tensor(views, device=device)
    one_view = view[first_row] == view[second_row]
    alike = rearrange(one_view[:, None] & (a == b), "q m -> (q m)")
    keep = first != second
    first, second, alike = first[keep], second[keep], alike[keep]
    same_view = alike if same_view_pairs and views is not None and len(set(views)) < len(views) else None
    out_first = out_second = first[:0]
    if not same_view_pairs:
        out_first, out_second, first, second = first[alike], second[alike], first[~alike], second[~alike]
    if len(first) == 0:
        raise VidsslError("HSIC needs at least 2 views of a video (or a video that occurs twice)")
    weight = torch.ones(len(first), device=device, dtype=dtype)
    if width is not None and width != float("inf"):
        if times is None:
            raise VidsslError(f"time_width={width}: the batch gives no times")
        flat = rearrange(times.to(dtype), "r b -> (r b)")
        check_choice("time_kernel", kernel, TIME_KERNELS)
        weight = TIME_KERNELS[kernel]((flat[first] - flat[second]).abs() / width)
    # A batch in which all weights underflow keeps a finite loss: the attraction vanishes.
    total = weight.sum().clamp_min(torch.finfo(dtype).tiny)
    n = rows_per_video * videos
    row_sums = torch.ones(n, device=device, dtype=dtype).index_add(0, first, weight)
    marginal = row_sums / row_sums.sum()
    weight = weight / total
    if len(out_first) == 0:
        return LabelPairs(first, second, weight, marginal, 1.0, len(first), same_view)
    taken = (marginal[out_first] + marginal[out_second]) / n - 1 / n**2
    share = 1 / (1 - taken.sum())
    return LabelPairs(
        torch.cat([first, out_first]),
        torch.cat([second, out_second]),
        torch.cat([weight, share * taken]),
        share * marginal,
        share,
        len(first),
        same_view,
    )
