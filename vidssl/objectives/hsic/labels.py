"""Label kernels for HSIC(Z, Y): which rows of a batch show the same thing, and how strongly.

Let L be a kernel on labels with L_ii = 1, and H = I - 11'/n. Up to the factor sum(L) / n², which holds no features,

    HSIC(Z, Y) = tr(K H L H) / sum(L) = sum_ij L_ij K_ij / sum(L)  -  (2/n) sum_ij a_i K_ij  +  (1/n²) sum_ij K_ij

with the marginals a_i = sum_j L_ij / sum(L). The first term is a mean over positive pairs that counts a row as its own
positive, although K(z_i, z_i) = 1 whatever the features. Without those pairs, P = L - I, it becomes
sum_ij w_ij K_ij, w = P / sum(P), which is what is used here.

For B videos with k rows each and L_ij = [same video] the marginals are 1/n, and this is the estimator of SSL-HSIC
(Li et al. 2021, arXiv 2106.08320, eq. 5): mean of K over pairs of different views of a video, minus its mean over
all pairs. It holds for videos that occur more than once and for kernels that fall off with the time between views.
"""

from __future__ import annotations

from collections.abc import Callable
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
    """A label kernel L: the non-zero entries of w = P / sum(P), ordered pairs of different rows.

    Attributes:
        first, second: (m,) int64 row numbers.
        weight: (m,) sums to 1.
        marginal: (n,) a, the row sums of L, which count L_ii = 1; sums to 1.
    """

    first: Tensor
    second: Tensor
    weight: Tensor
    marginal: Tensor


def label_pairs(
    video_id: Tensor,
    rows_per_video: int,
    times: Tensor | None = None,
    width: float | None = None,
    kernel: str = "gaussian",
    *,
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
        dtype: of the weights.

    Raises:
        VidsslError: if there is no pair at all, `times` are missing, or `kernel` or `width` is unknown.
    """
    videos = len(video_id)
    a, b = torch.nonzero(video_id[:, None] == video_id[None, :], as_tuple=True)
    numbers = torch.arange(rows_per_video, device=video_id.device)
    first_row, second_row = numbers.repeat_interleave(rows_per_video), numbers.repeat(rows_per_video)
    first = rearrange(first_row[:, None] * videos + a, "q m -> (q m)")
    second = rearrange(second_row[:, None] * videos + b, "q m -> (q m)")
    keep = first != second
    first, second = first[keep], second[keep]
    if len(first) == 0:
        raise VidsslError("HSIC needs at least 2 views of a video (or a video that occurs twice)")
    weight = torch.ones(len(first), device=video_id.device, dtype=dtype)
    if width is not None and width != float("inf"):
        if times is None:
            raise VidsslError(f"time_width={width}: the batch gives no times")
        flat = rearrange(times.to(dtype), "r b -> (r b)")
        check_choice("time_kernel", kernel, TIME_KERNELS)
        weight = TIME_KERNELS[kernel]((flat[first] - flat[second]).abs() / width)
    # A batch in which all weights underflow keeps a finite loss: the attraction vanishes.
    total = weight.sum().clamp_min(torch.finfo(dtype).tiny)
    row_sums = torch.ones(rows_per_video * videos, device=weight.device, dtype=dtype)
    row_sums = row_sums.index_add(0, first, weight)
    return LabelPairs(first, second, weight / total, row_sums / row_sums.sum())
