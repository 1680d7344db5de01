"""What the filter takes and returns. Leading dots are batch axes; T steps, n state and m observed dimensions."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class StateSpace(NamedTuple):
    """A linear-Gaussian model: the arguments of `kalman_filter`, by name and in its shapes."""

    A: Tensor
    Q: Tensor
    C: Tensor
    R: Tensor
    m0: Tensor
    P0: Tensor
    b: Tensor | None = None
    d: Tensor | None = None


class FilterResult(NamedTuple):
    """Moments of every step of a filter.

    Covariances that all sequences share are expanded views (stride 0 over the batch), not copies.

    Attributes:
        pred_mean: (…, T, n) E[x_t | z_0 … z_{t-1}].
        pred_cov: (…, T, n, n) its covariance.
        filt_mean: (…, T, n) E[x_t | z_0 … z_t].
        filt_cov: (…, T, n, n) its covariance.
        innovation: (…, T, m) z_t - C x_t^- - d; 0 at entries that were not observed.
        innovation_cov: (…, T, m, m) C P_t^- C' + R, of all entries, observed or not.
        log_likelihood: (…, T) log p(z_t | z_0 … z_{t-1}) in nats, of the observed entries.
    """

    pred_mean: Tensor
    pred_cov: Tensor
    filt_mean: Tensor
    filt_cov: Tensor
    innovation: Tensor
    innovation_cov: Tensor
    log_likelihood: Tensor
